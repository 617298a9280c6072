"""Following a log as deliveries: where it begins, what comes again, and positions that outlive a process."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from brokers import BrokerRefused, BrokerUnavailable, Delivery, Message, QueueReader
from brokers.backoff import Backoff
from brokers.local.broker import LocalBroker, LocalOptions
from brokers.positions import FilePositions, MemoryPositions, Place
from brokers.subscription import MAX_UNACKNOWLEDGED, LogSubscription, Start, subscribe
from schemas.errors import ConfigurationError
from settings import Bytes
from tests.brokers.kit import PATIENCE, ROOT, take

TOPIC = "gateway-1.commands"
ALL: Any = {"max_records": 100, "max_bytes": 1 << 20}


@pytest.fixture
def broker(tmp_path: Path) -> LocalBroker:
    return LocalBroker(tmp_path / "log")


def publish(broker: LocalBroker, *values: bytes, topic: str = TOPIC, key: str = "key") -> None:
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, key, value) for value in values])


def poll_once(broker: LocalBroker, positions: MemoryPositions, start: Start) -> list[bytes]:
    with closing(subscribe(broker, [TOPIC], group="g", positions=positions, start=start)) as reader:
        found = reader.poll(max_messages=100, timeout=0)
        reader.acknowledge(found)
    return [delivery.value for delivery in found]


def test_a_subscriber_from_the_end_misses_nothing_from_its_first_poll_on(broker: LocalBroker) -> None:
    publish(broker, b"before")
    positions = MemoryPositions()
    assert poll_once(broker, positions, "end") == []
    publish(broker, b"while it was away")
    assert poll_once(broker, positions, "end") == [b"while it was away"]


def test_a_subscriber_from_the_beginning_gets_all(broker: LocalBroker) -> None:
    publish(broker, b"before")
    assert poll_once(broker, MemoryPositions(), "beginning") == [b"before"]


def test_a_topic_made_after_subscribing_is_read_from_its_beginning(broker: LocalBroker) -> None:
    with closing(subscribe(broker, [TOPIC], group="g", start="end")) as reader:
        assert list(reader.poll(max_messages=1, timeout=0)) == []
        publish(broker, b"first")
        assert [delivery.value for delivery in take(reader, 1)] == [b"first"]


def test_a_partition_added_while_away_is_read_from_its_beginning(broker: LocalBroker) -> None:
    publish(broker, b"before")
    positions = MemoryPositions()
    assert poll_once(broker, positions, "end") == []
    broker.create_topic(TOPIC, partitions=3)
    for number in range(9):
        publish(broker, b"new", key=f"key-{number}")
    assert poll_once(broker, positions, "end") == [b"new"] * 9


def test_the_position_waits_for_what_is_not_acknowledged(broker: LocalBroker) -> None:
    publish(broker, *(b"%d" % number for number in range(6)))
    positions = MemoryPositions()
    with closing(subscribe(broker, [TOPIC], group="g", positions=positions, start="beginning")) as reader:
        found = take(reader, 6, acknowledge=False)
        reader.acknowledge(found[2:4])
        assert positions.load(TOPIC, 0) == 0
        reader.acknowledge(found[:2])
        assert positions.load(TOPIC, 0) == 4
        reader.acknowledge(found[4:])
        assert positions.load(TOPIC, 0) == 6


def test_lag_counts_what_is_not_acknowledged(broker: LocalBroker) -> None:
    publish(broker, *(b"%d" % number for number in range(6)))
    with closing(subscribe(broker, [TOPIC], group="g", start="beginning")) as reader:
        assert isinstance(reader, LogSubscription)
        found = reader.poll(max_messages=4, timeout=0)
        assert reader.lag() == 6
        reader.acknowledge(found)
        assert reader.lag() == 2


def test_a_subscriber_that_acknowledges_nothing_holds_a_bounded_number(broker: LocalBroker) -> None:
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(TOPIC, "key", b"value")] * (MAX_UNACKNOWLEDGED + 500))
    with closing(subscribe(broker, [TOPIC], group="g", start="beginning")) as reader:
        held = take(reader, MAX_UNACKNOWLEDGED, acknowledge=False)
        assert len(held) == MAX_UNACKNOWLEDGED
        assert list(reader.poll(max_messages=100, timeout=0.05)) == []
        reader.acknowledge(held)
        assert len(take(reader, 500)) == 500


def test_records_that_expired_while_away_are_skipped(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, LocalOptions(retention_bytes=Bytes(1)))
    publish(broker, b"one")
    positions = MemoryPositions()
    assert poll_once(broker, positions, "beginning") == [b"one"]
    for value in (b"lost", b"lost too", b"kept"):
        publish(broker, value)
    with closing(subscribe(broker, [TOPIC], group="g", positions=positions)) as reader:
        assert [delivery.value for delivery in take(reader, 1)] == [b"kept"]


@contextmanager
def damaged(directory: Path, topic: str, partition: int) -> Iterator[None]:
    """A partition's file is none for a while."""
    path = directory / f"{topic}.log" / f"{partition}.sqlite"
    path.rename(path.with_suffix(".whole"))
    path.write_bytes(b"no database" * 1000)
    yield
    path.with_suffix(".whole").rename(path)


def read_while_one_fails(reader: QueueReader, count: int) -> list[bytes]:
    """Values, until the failure of one partition is all there is to tell."""
    found: list[Delivery] = []
    while len(found) < count:
        found += (deliveries := reader.poll(max_messages=2, timeout=0))
        assert deliveries
        reader.acknowledge(deliveries)
    with pytest.raises(BrokerRefused, match="is damaged"):
        reader.poll(max_messages=2, timeout=0)
    return [delivery.value for delivery in found]


def test_a_partition_that_cannot_be_read_holds_up_no_other(broker: LocalBroker, tmp_path: Path) -> None:
    """Guarantee: what was read beside one that fails is handed out, and what fails is told when nothing else is."""
    broker.create_topic(TOPIC, partitions=3)
    for number in range(30):
        publish(broker, b"%d" % number, key=f"key-{number}")
    with closing(subscribe(broker, [TOPIC], group="g", start="beginning")) as reader:
        assert len(reader.poll(max_messages=1, timeout=0)) == 1
        with damaged(tmp_path / "log", TOPIC, 1), closing(broker.log_reader()) as log:
            others = [record.value for partition in (0, 2) for record in log.read(TOPIC, partition, 0, **ALL)]
            came = read_while_one_fails(reader, len(others) - 1)
        assert len({*came} & {*others}) >= len(others) - 1
        rest = take(reader, 30 - 1 - len(came))
    assert len({*came, *(delivery.value for delivery in rest)}) == 29


def test_a_topic_that_cannot_be_looked_at_begins_when_it_can_and_holds_up_no_other(broker: LocalBroker, tmp_path: Path) -> None:
    other = "gateway-1.other"
    publish(broker, b"before", topic=other)
    publish(broker, b"seen before")
    with closing(subscribe(broker, [TOPIC, other], group="g", start="end")) as reader:
        with damaged(tmp_path / "log", TOPIC, 0):
            with pytest.raises(BrokerRefused, match="is damaged"):
                reader.poll(max_messages=1, timeout=0)
            publish(broker, b"other", topic=other)
            assert read_while_one_fails(reader, 1) == [b"other"]
        until = time.monotonic() + PATIENCE
        found: list[Delivery] = []
        while not found:
            assert time.monotonic() < until
            with suppress(BrokerRefused):
                found += reader.poll(max_messages=9, timeout=1)
                publish(broker, b"after")
        assert {delivery.value for delivery in found} == {b"after"}


def test_topics_are_checked_before_anything_is_read(broker: LocalBroker) -> None:
    for topics in ([], ["no topic"]):
        with pytest.raises(ConfigurationError):
            subscribe(broker, topics, group="g")


def test_positions_in_a_file_outlive_the_process(tmp_path: Path) -> None:
    stored: dict[Place, int] = {("a.b", 0): 7, ("a.b", 11): 2**40, (uuid.uuid4().hex, 3): 0}
    with closing(FilePositions(tmp_path / "deep" / "positions.json")) as positions:
        assert positions.load("a.b", 0) is None
        positions.store(stored)
        positions.store({("a.b", 0): 8})
    with closing(FilePositions(tmp_path / "deep" / "positions.json")) as positions:
        assert {place: positions.load(*place) for place in stored} == {**stored, ("a.b", 0): 8}


def test_positions_on_a_full_disk_are_stored_once_there_is_room(tmp_path: Path) -> None:
    with closing(FilePositions(tmp_path / "positions.json")) as positions:
        positions.store({("a.b", 0): 1})
        # What stands in the way of the draft fails like a full disk, also for a user who may do anything.
        draft = tmp_path / "positions.json.draft"
        draft.mkdir()
        with pytest.raises(BrokerUnavailable, match=r"positions\.json: positions cannot be stored") as caught:
            positions.store({("a.b", 0): 2})
        assert "free space at" in caught.value.remedy
        draft.rmdir()
        positions.store({("a.b", 1): 3})
    with closing(FilePositions(tmp_path / "positions.json")) as positions:
        assert [positions.load("a.b", partition) for partition in (0, 1)] == [2, 3]


def test_two_processes_never_share_positions(tmp_path: Path) -> None:
    code = "import sys; from brokers.positions import FilePositions; FilePositions(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "positions.json")]
    with closing(FilePositions(tmp_path / "positions.json")):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert "another process reads on from these positions" in done.stderr
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"b": 1}}', "\0"])
def test_a_damaged_file_of_positions_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "positions.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"positions\.json: cannot be read as positions"):
        FilePositions(tmp_path / "positions.json")


def test_pauses_grow_with_jitter_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    most = Backoff(0.1, 5.0, uniform=lambda _low, high: high)
    assert [round(most.next(), 3) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    most.reset()
    assert most.next() == 0.1
    least = Backoff(0.1, 5.0, uniform=lambda low, _high: low)
    assert [round(least.next(), 3) for _ in range(3)] == [0.05, 0.1, 0.2]
    assert 0 < Backoff().next() <= 0.1
    for _ in range(2000):
        least.next()
    assert least.next() == 2.5
