"""The embedded log's files: damage, crashes, retention, other processes in the way."""

from __future__ import annotations

import fcntl
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from brokers import BrokerRefused, Message, PublishError
from brokers.local.broker import LocalBroker, LocalOptions
from brokers.partitioning import partition_of
from settings import Bytes, Seconds
from tests.brokers.kit import ROOT, Numbered, eventually, numbered, parse, publishing, read_all

TOPIC = "site.app.channel"


def publish(broker: LocalBroker, *values: bytes, topic: str = TOPIC, timeout: float = 30.0) -> None:
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, "key", value) for value in values], timeout=timeout)


def values(broker: LocalBroker, topic: str = TOPIC) -> list[bytes]:
    with closing(broker.log_reader()) as reader:
        return [record.value for records in read_all(reader, topic).values() for record in records]


def file_of(broker_directory: Path, topic: str = TOPIC) -> Path:
    return broker_directory / f"{topic}.log" / "0.sqlite"


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The file as a process that writes and never ends would hold it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    "damage",
    [
        'UPDATE records SET value = zeroblob(length(value)) WHERE "offset" = 2',
        'UPDATE records SET "key" = x\'ff00\' WHERE "offset" = 2',
        'UPDATE records SET checksum = checksum + 1 WHERE "offset" = 2',
    ],
)
def test_a_damaged_record_comes_with_an_empty_value_and_stops_nobody(tmp_path: Path, damage: str) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, *(b"value %d" % number for number in range(5)))
    with closing(sqlite3.connect(file_of(tmp_path), isolation_level=None)) as connection:
        connection.execute(damage)
    with closing(broker.log_reader()) as reader:
        records = reader.read(TOPIC, 0, 0, max_records=10, max_bytes=1 << 20)
    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert [record.value for record in records] == [b"value 0", b"value 1", b"", b"value 3", b"value 4"]


def test_records_that_a_rescue_has_lost_are_passed_over(tmp_path: Path) -> None:
    now = 0
    options = LocalOptions(retention_bytes=Bytes(35))
    broker = LocalBroker(tmp_path, clock=lambda: now)
    for number in range(8):
        now = 1_000 * number
        publish(broker, b"value %d" % number)
    with closing(sqlite3.connect(file_of(tmp_path), isolation_level=None)) as connection:
        connection.execute('DELETE FROM records WHERE "offset" IN (0, 3, 4, 5)')
    with closing(broker.log_reader()) as reader:
        assert [record.offset for record in read_all(reader, TOPIC)[0]] == [1, 2, 6, 7]
        assert [record.offset for record in reader.read(TOPIC, 0, 4, max_records=1, max_bytes=1)] == [6]
        times = {time: reader.offset_for_time(TOPIC, 0, time) for time in (0, 1_000, 2_001, 4_000, 6_000, 6_001, 9_000)}
        assert times == {0: 1, 1_000: 1, 2_001: 6, 4_000: 6, 6_000: 6, 6_001: 7, 9_000: 8}
        # What is to be kept begins in the hole.
        publish(LocalBroker(tmp_path, options, clock=lambda: now), b"value 8")
        assert reader.begin_offset(TOPIC, 0) == 6
        assert [record.offset for record in read_all(reader, TOPIC)[0]] == [6, 7, 8]


def test_a_file_that_is_no_log_is_refused_by_name(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, b"value")
    file_of(tmp_path).write_bytes(random.randbytes(8192))
    with pytest.raises(BrokerRefused, match=r"0\.sqlite is damaged"):
        values(broker)


@pytest.mark.parametrize(
    ("pragma", "problem"),
    [("user_version=2", "has format 2, and this version of iotcloud knows"), ("application_id=7", "is no partition of a log")],
)
def test_a_file_of_another_format_is_refused_by_name(tmp_path: Path, pragma: str, problem: str) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, b"value")
    with closing(sqlite3.connect(file_of(tmp_path))) as connection:
        connection.execute(f"PRAGMA {pragma}")
    with pytest.raises(BrokerRefused, match=r"0\.sqlite " + problem) as caught:
        values(broker)
    assert "version of iotcloud" in caught.value.remedy
    with pytest.raises(PublishError, match=problem) as failed:
        publish(broker, b"value")
    assert failed.value.refused == ()


def test_append_times_never_fall_when_the_clock_is_set_back(tmp_path: Path) -> None:
    times = iter([5_000, 1_000, 9_000, 8_999])
    broker = LocalBroker(tmp_path, clock=lambda: next(times))
    for number in range(4):
        publish(broker, b"%d" % number)
    with closing(broker.log_reader()) as reader:
        records = reader.read(TOPIC, 0, 0, max_records=10, max_bytes=100)
        assert [record.append_time for record in records] == [5_000, 5_000, 9_000, 9_000]
        assert reader.offset_for_time(TOPIC, 0, 5_001) == 2


@pytest.mark.slow
def test_whatever_part_of_the_write_ahead_log_a_crash_leaves_the_log_is_a_prefix(tmp_path: Path) -> None:
    # A killed publisher leaves its files as they are; cutting the write-ahead log short is what a power failure
    # leaves of commits whose fsync had not returned.
    broker = LocalBroker(tmp_path / "log")
    with publishing(broker.url, TOPIC, "p", calls=1_000_000) as process:
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
    whole = [parse(value) for value in self_copy(tmp_path, None)]
    assert whole == [Numbered("p", call, index) for call in range(len(whole) // 5) for index in range(5)]
    size = file_of(tmp_path / "log").with_name("0.sqlite-wal").stat().st_size
    for cut in [0, 31, *(random.randrange(size) for _ in range(20))]:
        found = [parse(value) for value in self_copy(tmp_path, cut)]
        assert found == whole[: len(found)]
        assert len(found) % 5 == 0, "a call is stored whole or not at all"


def self_copy(tmp_path: Path, cut: int | None) -> list[bytes]:
    """What a copy of the log holds, with the write-ahead log cut to ``cut`` bytes."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tmp_path / "log", copy, ignore=shutil.ignore_patterns("*-shm"))
    if cut is not None:
        with file_of(copy).with_name("0.sqlite-wal").open("r+b") as file:
            file.truncate(cut)
    return values(LocalBroker(copy))


def test_retention_by_bytes_keeps_the_newest_and_the_disk_small(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, LocalOptions(retention_bytes=Bytes(1_000_000)))
    with closing(broker.publisher()) as publisher, closing(broker.log_reader()) as reader:
        for call in range(120):
            publisher.publish([Message(TOPIC, "key", b"%d " % call + bytes(10_000)) for _ in range(10)])
        begin, end = reader.begin_offset(TOPIC, 0), reader.end_offset(TOPIC, 0)
        assert end == 1200
        kept = read_all(reader, TOPIC)[0]
    assert [record.offset for record in kept] == list(range(begin, end))
    assert 900_000 < sum(len(record.value) for record in kept) < 1_100_000
    assert file_of(tmp_path).stat().st_size < 6_000_000


def test_disk_space_is_given_back_after_the_limit_is_lowered(tmp_path: Path) -> None:
    publish(LocalBroker(tmp_path), *(bytes(100_000) for _ in range(200)))
    before = file_of(tmp_path).stat().st_size
    broker = LocalBroker(tmp_path, LocalOptions(retention_bytes=Bytes(1_000_000)))
    with closing(broker.publisher()) as publisher:
        for _ in range(20):
            publisher.publish([Message(TOPIC, "key", bytes(100_000)) for _ in range(2)])
    assert before > 20_000_000
    assert file_of(tmp_path).stat().st_size < before / 2


def test_retention_by_age_lets_go_of_what_is_too_old_but_never_of_the_newest(tmp_path: Path) -> None:
    now = 1_000_000_000
    broker = LocalBroker(tmp_path, LocalOptions(retention_age=Seconds(60)), clock=lambda: now, elapsed=lambda: now / 1e6)
    publish(broker, b"old", b"old too")
    now += 59_000_000
    publish(broker, b"young")
    assert values(broker) == [b"old", b"old too", b"young"]
    now += 2_000_000
    publish(broker, b"younger")
    assert values(broker) == [b"young", b"younger"]
    now += 600_000_000
    publish(broker, b"newest")
    assert values(broker) == [b"newest"]
    with closing(broker.log_reader()) as reader:
        assert (reader.begin_offset(TOPIC, 0), reader.end_offset(TOPIC, 0)) == (4, 5)


def test_setting_the_clock_makes_nothing_too_old(tmp_path: Path) -> None:
    """Guarantee: a machine that starts days behind and is then put right keeps what it has just written."""
    day = 86_400_000_000
    now, up = 100 * day, 10.0
    broker = LocalBroker(tmp_path, LocalOptions(retention_age=Seconds(7 * 86_400)), clock=lambda: now, elapsed=lambda: up)
    publish(broker, b"behind")
    now, up = now + 10 * day, up + 1
    publish(broker, b"right")
    up += 6 * 86_400
    now += 6 * day
    publish(broker, b"later")
    assert values(broker) == [b"behind", b"right", b"later"]
    up += 86_400
    now += day
    publish(broker, b"a week after")
    assert values(broker) == [b"right", b"later", b"a week after"]


def test_append_times_ahead_of_the_clock_are_warned_of(tmp_path: Path) -> None:
    now = 10_000_000_000
    broker = LocalBroker(tmp_path, clock=lambda: now)
    publish(broker, b"ahead")
    now -= 3_600_000_000
    with capture_logs() as logs, closing(broker.publisher()) as publisher:
        for _ in range(3):
            publisher.publish([Message(TOPIC, "key", b"value")])
    ahead = [entry for entry in logs if "ahead" in entry["event"]]
    assert [(entry["topic"], entry["seconds"]) for entry in ahead] == [(TOPIC, 3_600)]


def test_a_process_that_holds_the_file_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, b"before")
    with held(file_of(tmp_path)), pytest.raises(PublishError, match="another process held the file") as caught:
        publish(broker, b"lost", timeout=0.2)
    assert "fuser" in caught.value.remedy
    publish(broker, b"after")
    assert values(broker) == [b"before", b"after"]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The directory as a process would hold it that makes a topic and never ends."""
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("hold", [lambda directory: held(file_of(directory)), locked], ids=["partition", "directory"])
def test_closing_ends_a_blocked_publish(tmp_path: Path, hold: Callable[[Path], AbstractContextManager[None]]) -> None:
    broker = LocalBroker(tmp_path)
    if hold is not locked:
        publish(broker, b"before")
    publisher = broker.publisher()
    failed = threading.Event()

    def blocked() -> None:
        try:
            publisher.publish([Message(TOPIC, "key", b"value")], timeout=300)
        except PublishError:
            failed.set()

    with hold(tmp_path):
        thread = threading.Thread(target=blocked, daemon=True)
        thread.start()
        assert not failed.wait(0.2)
        publisher.close()
        assert failed.wait(5)
        thread.join()


def test_readers_are_not_held_up_by_a_writer_in_the_middle(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, b"value")
    with held(file_of(tmp_path)):
        assert values(broker) == [b"value"]


def test_a_log_removed_and_made_anew_is_noticed_by_all_who_had_it_open(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path / "log")
    with closing(broker.publisher()) as publisher, closing(broker.log_reader()) as reader:
        publisher.publish([Message(TOPIC, "key", b"old")] * 3)
        assert reader.end_offset(TOPIC, 0) == 3
        shutil.rmtree(tmp_path / "log")
        publisher.publish([Message(TOPIC, "key", b"new")])
        assert [record.value for record in reader.read(TOPIC, 0, 0, max_records=10, max_bytes=100)] == [b"new"]
        with pytest.raises(BrokerRefused, match="offset 3 is beyond the end, 1"):
            reader.read(TOPIC, 0, 3, max_records=1, max_bytes=1)


@pytest.mark.slow
def test_more_topics_than_files_are_held_open(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    topics = [f"topic-{number}" for number in range(80)]
    with closing(broker.publisher()) as publisher, closing(broker.log_reader()) as reader:
        for round_ in range(2):
            publisher.publish([Message(topic, "key", b"%d" % round_) for topic in topics])
        for topic in topics:
            assert [record.value for record in reader.read(topic, 0, 0, max_records=5, max_bytes=99)] == [b"0", b"1"]
    assert broker.topics() == sorted(topics)


def test_names_made_of_dots_stay_within_the_directory(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path / "log")
    for topic in (".", "..", "..."):
        publish(broker, topic.encode(), topic=topic)
    assert broker.topics() == [".", "..", "..."]
    assert [values(broker, topic) for topic in broker.topics()] == [[b"."], [b".."], [b"..."]]
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_what_a_killed_maker_of_a_topic_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    draft = tmp_path / f".draft-{TOPIC}.new"
    draft.mkdir()
    (draft / "0.sqlite").write_bytes(b"half a file")
    broker = LocalBroker(tmp_path)
    assert broker.topics() == []
    publish(broker, b"value")
    (tmp_path / f"{TOPIC}.log" / ".draft-1").write_bytes(b"half a file")
    broker.create_topic(TOPIC, partitions=2)
    assert values(broker) == [b"value"]
    left = {path.name for path in [*tmp_path.iterdir(), *(tmp_path / f"{TOPIC}.log").iterdir()]}
    assert left == {".lock", f"{TOPIC}.log", "0.sqlite", "1.sqlite"}


@pytest.mark.slow
def test_processes_that_make_the_same_topic_at_once_agree(tmp_path: Path) -> None:
    url = f"local:{tmp_path}/log?partitions=3"
    command = [sys.executable, "-m", "tests.brokers.kit", url, TOPIC]
    processes = [subprocess.Popen([*command, f"p{number}", "3", "5"], cwd=ROOT, stdout=subprocess.DEVNULL) for number in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    with closing(LocalBroker(tmp_path / "log").log_reader()) as reader:
        found = read_all(reader, TOPIC)
    assert sorted(found) == [0, 1, 2]
    for partition, records in found.items():
        assert [record.offset for record in records] == list(range(len(records)))
        assert {partition_of(record.key, 3) for record in records} <= {partition}
    assert sum(len(records) for records in found.values()) == 60


@pytest.mark.slow
def test_a_killed_publisher_leaves_whole_calls_and_dense_offsets(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path / "log")
    acknowledged: dict[str, int] = {}
    for life in range(12):
        name = f"life-{life}"
        with publishing(broker.url, TOPIC, name, calls=1_000_000) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.1))
            process.kill()
            acknowledged[name] = 1 + len(process.stdout.readlines())
    with closing(broker.log_reader()) as reader:
        (records,) = read_all(reader, TOPIC).values()
    assert [record.offset for record in records] == list(range(len(records)))
    for name, calls in acknowledged.items():
        mine = [number for record in records if (number := parse(record.value)).publisher == name]
        assert mine == [Numbered(name, call, index) for call in range(len(mine) // 5) for index in range(5)]
        assert len(mine) // 5 in (calls, calls + 1), "at most the call that was under way is there beside the acknowledged ones"


def test_a_call_over_several_topics_names_exactly_what_is_not_stored(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, b"before", topic="held")
    with held(file_of(tmp_path, "held")), closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([*numbered("free", "p", 0, 2), *numbered("held", "p", 0, 2), *numbered("free", "p", 1, 1)], timeout=0.2)
    assert caught.value.unacknowledged == (2, 3)
    assert caught.value.refused == ()
    assert len(values(broker, "free")) == 3
    assert len(values(broker, "held")) == 1


def test_positions_of_groups_are_there_to_be_looked_at(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    publish(broker, b"value")
    with closing(broker.log_reader()) as reader:
        reader.commit("group", TOPIC, 0, 1)
    with closing(sqlite3.connect(tmp_path / "groups.sqlite")) as connection:
        assert connection.execute("SELECT * FROM positions").fetchall() == [("group", TOPIC, 0, 1)]
    eventually(lambda: values(broker) == [b"value"], "the log is as it was")
