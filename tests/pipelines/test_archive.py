"""The archive: every record of a log stands in the journal once, whatever happens on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from brokers import LogReader, Message, OffsetExpired, Record, connect
from pipelines.archive import ArchiveLimits, Step, archive_once
from schemas.registry import Schemas
from storage import Journal, StoreFull, open_journal
from storage.contract import Extent
from tests.storage.frames import records

TOPIC = "site.app.temperature"
WAIT = 30_000_000


@pytest.fixture
def log(tmp_path: Path) -> str:
    return f"local:{tmp_path}/log"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return open_journal(f"files:{tmp_path}/archive", Schemas.with_shipped())


def publish(log: str, kinds: str) -> list[bytes]:
    values = [value for *_, value in records(kinds)]
    publisher = connect(log).publisher()
    publisher.publish([Message(TOPIC, "g", value) for value in values])
    publisher.close()
    return values


def archived(journal: Journal) -> list[bytes]:
    return [found.value for found in journal.read(TOPIC, 0)]


def step(log: str, journal: Journal, *, waited: int = 0, flush: bool = False, limits: ArchiveLimits | None = None) -> Step:
    """One call, ``waited`` µs after the oldest record that is not archived was appended."""
    reader = connect(log).log_reader()
    try:
        position = journal.next_offset(TOPIC, 0) or 0
        waiting = reader.read(TOPIC, 0, position, max_records=1, max_bytes=1)
        now = waited + (waiting[0].append_time if waiting else 0)
        return archive_once(reader, journal, TOPIC, 0, limits or ArchiveLimits(wait=WAIT), now=now, flush=flush)
    finally:
        reader.close()


def test_records_wait_until_the_oldest_has_waited_long_enough(log: str, journal: Journal) -> None:
    sent = publish(log, "rcr")
    early = step(log, journal, waited=WAIT - 1)
    assert (early.taken, early.complete) == (0, False)
    assert archived(journal) == []
    assert step(log, journal, waited=WAIT).taken == 3
    assert archived(journal) == sent


def test_enough_records_or_bytes_wait_no_longer(log: str, journal: Journal) -> None:
    sent = publish(log, "r" * 10)
    assert step(log, journal, limits=ArchiveLimits(records=4)).taken == 4
    assert step(log, journal, limits=ArchiveLimits(bytes=len(sent[4]) + 1)).taken == 2
    assert archived(journal) == sent[:6]


def test_a_drain_takes_everything_and_says_when_it_has(log: str, journal: Journal) -> None:
    sent = publish(log, "rcxr")
    assert step(log, journal, flush=True) == Step(4, 4, 0, complete=False, up_to_date=True)
    last = step(log, journal, flush=True)
    assert (last.next_offset, last.taken, last.complete) == (4, 0, True)
    assert archived(journal) == sent


def test_a_partition_without_records_is_complete(log: str, journal: Journal) -> None:
    connect(log).create_topic(TOPIC)
    assert step(log, journal, flush=True).complete


def test_it_goes_on_where_the_names_of_the_journal_end(log: str, journal: Journal) -> None:
    sent = publish(log, "rr")
    step(log, journal, flush=True)
    sent += publish(log, "ss")
    step(log, journal, flush=True)
    assert archived(journal) == sent
    assert list(journal.extents(TOPIC, 0)) == [Extent(0, 2), Extent(2, 4)]


class Expired:
    """A log whose first records are gone: what `reader` holds from ``begin`` on."""

    def __init__(self, reader: LogReader, begin: int) -> None:
        self._reader = reader
        self._begin = begin

    def begin_offset(self, topic: str, partition: int) -> int:
        return self._begin

    def read(self, topic: str, partition: int, offset: int, **limits: int) -> Sequence[Record]:
        if offset < self._begin:
            raise OffsetExpired("gone", begin=self._begin)
        return self._reader.read(topic, partition, offset, **limits)


def test_offsets_that_expired_unarchived_are_noted_and_the_rest_goes_on(log: str, journal: Journal) -> None:
    sent = publish(log, "rrrrrr")
    step(log, journal, flush=True, limits=ArchiveLimits(records=2))
    reader = connect(log).log_reader()
    expired = Expired(reader, 4)
    assert archive_once(expired, journal, TOPIC, 0, ArchiveLimits(), now=0, flush=True).next_offset == 4  # type: ignore[arg-type]
    assert archive_once(expired, journal, TOPIC, 0, ArchiveLimits(), now=0, flush=True).next_offset == 6  # type: ignore[arg-type]
    reader.close()
    assert list(journal.extents(TOPIC, 0)) == [Extent(0, 2), Extent(2, 4), Extent(4, 6)]
    assert archived(journal) == sent[:2] + sent[4:]


class Expiring(Expired):
    """A log whose retention passes offset ``begin`` after the first read."""

    def begin_offset(self, topic: str, partition: int) -> int:
        return self._reader.begin_offset(topic, partition)

    def read(self, topic: str, partition: int, offset: int, **limits: int) -> Sequence[Record]:
        if offset == 0:
            return self._reader.read(topic, partition, offset, **{**limits, "max_records": 2})
        return super().read(topic, partition, offset, **limits)


def test_records_that_were_read_while_the_log_let_go_of_them_are_kept(log: str, journal: Journal) -> None:
    sent = publish(log, "rrrrrr")
    reader = connect(log).log_reader()
    # None of them is due, but they could not be read again.
    kept = archive_once(Expiring(reader, 4), journal, TOPIC, 0, ArchiveLimits(), now=0)  # type: ignore[arg-type]
    assert (kept.next_offset, kept.taken) == (2, 2)
    expired = Expired(reader, 4)
    assert archive_once(expired, journal, TOPIC, 0, ArchiveLimits(), now=0, flush=True).next_offset == 4  # type: ignore[arg-type]
    assert archive_once(expired, journal, TOPIC, 0, ArchiveLimits(), now=0, flush=True).next_offset == 6  # type: ignore[arg-type]
    reader.close()
    assert archived(journal) == sent[:2] + sent[4:]


def test_a_store_that_fails_loses_nothing(log: str, tmp_path: Path) -> None:
    sent = publish(log, "rr")
    root = tmp_path / "archive"
    root.write_text("not a directory")
    journal = open_journal(f"files:{root}", Schemas.with_shipped())
    with pytest.raises(Exception, match="archive") as failed:
        step(log, journal, flush=True)
    assert not isinstance(failed.value, StoreFull)
    root.unlink()
    assert step(log, journal, flush=True).taken == 2
    assert archived(journal) == sent


def test_two_archivers_of_one_log_keep_every_record_once(log: str, tmp_path: Path) -> None:
    sent = publish(log, "rcs" * 60)

    def run(limit: int) -> Callable[[], None]:
        def archive() -> None:
            journal = open_journal(f"files:{tmp_path}/archive", Schemas.with_shipped())
            while not step(log, journal, flush=True, limits=ArchiveLimits(records=limit)).complete:
                pass

        return archive

    threads = [threading.Thread(target=run(limit)) for limit in (7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archived(open_journal(f"files:{tmp_path}/archive", Schemas.with_shipped())) == sent
