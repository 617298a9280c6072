"""The spool keeps the contract of a queue. Run from a checkout of iotcloud, with this package installed."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from brokers import Broker, Message, Publisher
from brokers.connect import schemes
from tests.brokers.kit import ROOT, following, numbered, take
from tests.brokers.queue_contract import QueueContract


def test_it_is_found_by_its_entry_point() -> None:
    assert "spool" in schemes()


class TestSpool(QueueContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"spool:{tmp_path}/spool?max_message_bytes=1MB"

    @pytest.fixture
    def unavailable_url(self, tmp_path: Path) -> str:
        (tmp_path / "file").write_text("not a directory")
        return f"spool:{tmp_path}/file/spool"

    def test_what_a_killed_reader_held_goes_to_another(self, broker: Broker, url: str, topic: str, publisher: Publisher) -> None:
        broker.keep([topic], group="tests")
        sent = numbered(topic, "p", 0, 20)
        publisher.publish(sent)
        with following(broker, topic) as reader:
            assert take(reader, 20, acknowledge=False)[0].redelivered is False
            with subprocess.Popen(
                [sys.executable, "-m", "tests.brokers.hold", url, topic, "20"], cwd=ROOT, stdout=subprocess.PIPE, text=True
            ) as process:
                reader.close()
                assert process.stdout
                assert process.stdout.readline() == "holding 20\n"
                process.kill()
        with following(broker, topic) as reader:
            again = take(reader, 20)
        assert [delivery.value for delivery in again] == [message.value for message in sent]
        assert all(delivery.redelivered for delivery in again)

    def test_a_key_is_with_one_reader_at_a_time(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with closing(broker.queue_reader([topic], group="g")) as one, closing(broker.queue_reader([topic], group="g")) as other:
            one.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, key, value) for key, value in (("a", b"1"), ("a", b"2"), ("b", b"3"))])
            (first,) = one.poll(max_messages=1, timeout=1)
            assert [delivery.value for delivery in other.poll(max_messages=10, timeout=1)] == [b"3"]
            one.acknowledge([first])
            assert [delivery.value for delivery in other.poll(max_messages=10, timeout=1)] == [b"2"]

    def test_what_a_publisher_left_that_died_is_swept_away(
        self, broker: Broker, tmp_path: Path, topic: str, publisher: Publisher
    ) -> None:
        publisher.publish([Message(topic, "key", b"value")])
        writing = tmp_path / "spool" / f"{topic}.topic" / "writing"
        left, current = writing / "left", writing / "current"
        for file in (left, current):
            file.write_bytes(b"half a mess")
        os.utime(left, (0, 0))
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
        assert list(writing.iterdir()) == [current]
