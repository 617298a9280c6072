"""The relay moves every message at least once, unchanged and in order, whatever happens to it or to its brokers."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from brokers import BrokerRefused, Message
from brokers.forwarding import MAX_MESSAGES, Forwarder
from brokers.local.broker import LocalBroker, LocalOptions
from brokers.positions import FilePositions, MemoryPositions
from schemas.errors import ConfigurationError
from settings import Bytes
from tests.brokers.kit import ROOT, eventually, numbered, read_all

TOPICS = ("plant-1.wsn.humidity", "plant-1.wsn.temperature")


@contextmanager
def relay(tmp_path: Path, *options: str, topics: str = ",".join(TOPICS)) -> Iterator[subprocess.Popen[str]]:
    """The command as a person starts it."""
    command = [sys.executable, "-m", "iotcloud", "relay", f"local:{tmp_path}/from/{topics}", f"local:{tmp_path}/to"]
    process = subprocess.Popen(
        [*command, "--positions", str(tmp_path / "positions"), *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def fill(broker: LocalBroker, calls: int, per_call: int = 100) -> None:
    with closing(broker.publisher()) as publisher:
        for call in range(calls):
            publisher.publish([m for topic in TOPICS for key in "abc" for m in numbered(topic, key, call, per_call)])


def contents(broker: LocalBroker) -> dict[tuple[str, str], list[bytes]]:
    """Values by topic and key, in order."""
    found: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    with closing(broker.log_reader()) as reader:
        for topic in broker.topics():
            for records in read_all(reader, topic).values():
                for record in records:
                    found[topic, record.key].append(record.value)
    return found


def stored(broker: LocalBroker) -> int:
    """How many records there are."""
    with closing(broker.log_reader()) as reader:
        return sum(reader.end_offset(topic, partition) for topic in TOPICS for partition in reader.partitions(topic))


def more_than(count: int, broker: LocalBroker) -> bool:
    return stored(broker) > count


def distinct(found: dict[tuple[str, str], list[bytes]]) -> dict[tuple[str, str], set[bytes]]:
    return {place: set(values) for place, values in found.items()}


def first_occurrences(values: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(values))


@pytest.fixture
def source(tmp_path: Path) -> LocalBroker:
    return LocalBroker(tmp_path / "from", LocalOptions(partitions=2))


@pytest.fixture
def target(tmp_path: Path) -> LocalBroker:
    return LocalBroker(tmp_path / "to", LocalOptions(max_message_bytes=Bytes(100_000)))


@contextmanager
def running(forwarder: Forwarder) -> Iterator[list[Exception]]:
    """The forwarder in a thread; what ended it comes in the list."""
    stopping, ends = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            forwarder.run(stopping)
        except Exception as error:
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ends
    finally:
        stopping.set()
        thread.join()


@pytest.mark.slow
def test_messages_arrive_unchanged_in_order_and_once_when_nothing_fails(source: LocalBroker, target: LocalBroker) -> None:
    fill(source, 5)
    forwarder = Forwarder(source, TOPICS, target, group="g", positions=MemoryPositions())
    with running(forwarder):
        eventually(lambda: forwarder.progress.messages == 3000, "all were moved")
        fill(source, 1)
        eventually(lambda: forwarder.progress.messages == 3600, "what came later was moved too")
        eventually(lambda: forwarder.progress.lag == 0, "the lag is measured")
    assert contents(target) == contents(source)
    assert forwarder.progress.retries == 0
    assert not forwarder.progress.connected


def test_it_waits_for_a_target_that_is_away_and_goes_on_when_it_is_there(tmp_path: Path, source: LocalBroker) -> None:
    fill(source, 1)
    target = LocalBroker(tmp_path / "later" / "log")
    forwarder = Forwarder(source, TOPICS, target, group="g", positions=MemoryPositions())
    with running(forwarder) as ends:
        eventually(lambda: forwarder.progress.retries >= 2, "it tried again")
        assert not forwarder.progress.connected
        (tmp_path / "later").mkdir()
        eventually(lambda: forwarder.progress.messages == 600, "it went on")
        assert forwarder.progress.connected
    assert ends == []
    assert contents(target) == contents(source)


def test_it_waits_for_a_source_that_is_away(tmp_path: Path, target: LocalBroker) -> None:
    (tmp_path / "from").write_text("in the way")
    source = LocalBroker(tmp_path / "from")
    forwarder = Forwarder(source, TOPICS, target, group="g", positions=MemoryPositions())
    with running(forwarder) as ends:
        eventually(lambda: forwarder.progress.retries >= 2, "it tried again")
        (tmp_path / "from").unlink()
        fill(source, 1)
        eventually(lambda: forwarder.progress.messages == 600, "it went on")
    assert ends == []
    assert contents(target) == contents(source)


def test_it_waits_for_room_for_its_positions(tmp_path: Path, source: LocalBroker, target: LocalBroker) -> None:
    fill(source, 1, per_call=10)
    # What stands in the way of the draft fails like a full disk.
    draft = tmp_path / "positions.json.draft"
    draft.mkdir()
    with closing(FilePositions(tmp_path / "positions.json")) as positions:
        forwarder = Forwarder(source, TOPICS, target, group="g", positions=positions)
        with running(forwarder) as ends:
            eventually(lambda: forwarder.progress.retries > 0, "it could not store where it is")
            draft.rmdir()
            eventually(lambda: distinct(contents(target)) == distinct(contents(source)), "all was moved")
        assert not ends


def test_stopping_while_the_target_is_away_acknowledges_nothing(tmp_path: Path, source: LocalBroker) -> None:
    fill(source, 1)
    positions = MemoryPositions()
    forwarder = Forwarder(source, TOPICS, LocalBroker(tmp_path / "absent" / "log"), group="g", positions=positions)
    with running(forwarder):
        eventually(lambda: forwarder.progress.retries >= 1, "it tried")
    assert [positions.load(topic, partition) for topic in TOPICS for partition in (0, 1)] == [0, 0, 0, 0]
    assert forwarder.progress.messages == 0


def test_a_message_the_target_refuses_ends_it_with_what_to_do(source: LocalBroker, target: LocalBroker) -> None:
    with closing(source.publisher()) as publisher:
        publisher.publish([Message(TOPICS[0], "key", bytes(100_001))])
    forwarder = Forwarder(source, TOPICS, target, group="g", positions=MemoryPositions())
    with running(forwarder) as ends:
        eventually(lambda: bool(ends), "it ended")
    (error,) = ends
    assert isinstance(error, BrokerRefused)
    assert TOPICS[0] in error.message
    assert "--skip-refused" in error.remedy


def test_refused_messages_are_left_out_and_counted_when_asked_for(source: LocalBroker, target: LocalBroker) -> None:
    with closing(source.publisher()) as publisher:
        publisher.publish([Message(TOPICS[0], "key", value) for value in (b"1", bytes(100_001), b"2")])
    forwarder = Forwarder(source, TOPICS, target, group="g", positions=MemoryPositions(), skip_refused=True)
    with running(forwarder):
        eventually(lambda: forwarder.progress.lag == 0, "all were looked at")
        eventually(lambda: contents(target) == {(TOPICS[0], "key"): [b"1", b"2"]}, "the others were moved")
    assert forwarder.progress.refused == 1


def test_a_log_is_not_relayed_into_itself(source: LocalBroker) -> None:
    with pytest.raises(ConfigurationError, match="both source and target"):
        Forwarder(source, TOPICS, source, group="g")


@pytest.mark.slow
def test_killed_at_random_moments_it_loses_nothing_and_keeps_the_order(
    tmp_path: Path, source: LocalBroker, target: LocalBroker
) -> None:
    lives = 6
    fill(source, 60)
    expected = contents(source)
    for _ in range(lives):
        before = stored(target)
        with relay(tmp_path) as process:
            eventually(partial(more_than, before, target), "it moves")
            time.sleep(random.uniform(0.0, 0.05))
            process.kill()
    assert stored(target) < stored(source), "the last one has something left to move"
    with relay(tmp_path) as process:
        eventually(lambda: distinct(contents(target)) == distinct(expected), "all came")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    found = contents(target)
    assert {place: first_occurrences(values) for place, values in found.items()} == expected
    moved, there = (sum(len(values) for values in side.values()) for side in (found, expected))
    assert there <= moved <= there + lives * MAX_MESSAGES


@pytest.mark.slow
def test_stopped_and_started_again_it_moves_nothing_twice(tmp_path: Path, source: LocalBroker, target: LocalBroker) -> None:
    for calls in (1, 2):
        fill(source, calls)
        with relay(tmp_path) as process:
            eventually(lambda: contents(target) == contents(source), "all was moved")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert contents(target) == contents(source)


@pytest.mark.slow
def test_it_shows_what_it_does(tmp_path: Path, source: LocalBroker) -> None:
    fill(source, 1)
    with relay(tmp_path, "--metrics-port", "0") as process:
        assert process.stderr
        port = json.loads(process.stderr.readline())["port"]
        moved = f'iotcloud_relay_messages_total{{source="local:{tmp_path}/from"}} 600.0'
        eventually(lambda: moved in get(port, "/metrics"), "all was moved")
        (status,) = json.loads(get(port, "/api/v1/status"))["forwarders"]
        assert (status["messages"], status["refused"], status["retries"]) == (600, 0, 0)
        assert get(port, "/ready") == "ready\n"


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_the_command_line_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    with relay(tmp_path, topics="no topic") as process:
        assert process.wait(30) == 1
        assert process.stderr
        lines = process.stderr.read().splitlines()
    assert lines[0].startswith("Error: 'no topic' is not a topic name")
    assert lines[1].startswith("Try: ")


def test_its_help_has_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iotcloud", "relay", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "examples:" in done.stdout
    assert "iotcloud relay" in done.stdout
