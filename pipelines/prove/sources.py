"""Reading what there is into books: the archive, then what the broker has beyond it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from brokers import LogReader, OffsetExpired, connect
from brokers.contract import require_log
from pipelines.batch.progress import BatchProgress
from pipelines.prove.reading import Reading, Shelf
from pipelines.sources.numbering import Origins, numbered_from
from schemas.errors import ConfigurationError
from storage.contract import Journal, JournalRecord
from storage.errors import StoreRefused
from storage.events.manifest import Covered
from storage.events.sorting import blocks_of

_READ_RECORDS: Final = 10_000
_READ_BYTES: Final = 2_000_000


def read_archive(journal: Journal, found: Sequence[Covered], shelf: Shelf, progress: BatchProgress) -> list[str]:
    """Read partitions whole. Returns what could not be read; the events in it are missing then."""
    problems: list[str] = []
    for partition in found:
        reading = Reading(shelf, partition.topic, archived=True, begins_late=partition.first > 0)
        problems += _read(journal, partition, reading, progress)
    shelf.end_of_archive()
    return problems


def _read(journal: Journal, found: Covered, reading: Reading, progress: BatchProgress) -> Iterator[str]:
    """Problems of a partition: an append that is damaged is passed over."""
    position = found.first
    while position < found.next:
        try:
            for block in blocks_of(journal.read(found.topic, found.partition, start=position, end=found.next)):
                reading.take([record.key for record in block], [record.value for record in block])
                progress.advance(block[-1].offset + 1 - position)
                position = block[-1].offset + 1
            return
        except StoreRefused:
            # Somewhere behind the last whole block: append by append until it is found.
            for extent in list(journal.extents(found.topic, found.partition, start=position)):
                if problem := _read_append(journal, found, max(position, extent.first), min(extent.next, found.next), reading):
                    yield problem
                progress.advance(max(0, extent.next - position))
                position = max(position, extent.next)
                if problem or position >= found.next:
                    break


def _read_append(journal: Journal, found: Covered, start: int, end: int, reading: Reading) -> str:
    """Take in what can be read of an append; why that was not all, if so."""
    records: list[JournalRecord] = []
    problem = ""
    try:
        for record in journal.read(found.topic, found.partition, start=start, end=end):
            records.append(record)  # noqa: PERF402  (what came before the damage is kept)
    except StoreRefused as error:
        problem = error.message
    for block in blocks_of(records):
        reading.take([record.key for record in block], [record.value for record in block])
    return problem


def read_brokers(
    sources: Sequence[tuple[str, Sequence[str]]],
    state: Path | None,
    archived: Sequence[Covered],
    shelf: Shelf,
    progress: BatchProgress,
) -> list[str]:
    """Read logs from where the archive ends to their ends as they are now. Returns what they no longer have.

    ``state`` is the directory of the archive job, which knows the numbers of partitions where a topic is on several brokers.
    Raises `BrokerError`, and `ConfigurationError` for a queue.
    """
    problems: list[str] = []
    origins = Origins(state)
    known = {(found.topic, found.partition): found for found in archived}
    for url, topics in sources:
        reader = require_log(connect(url))
        try:
            for base, names in origins.bases(url, topics).items():
                for topic in names:
                    problems += _behind(numbered_from(base, reader), topic, known, shelf, progress)
        finally:
            reader.close()
    return problems


def _behind(
    reader: LogReader, topic: str, archived: Mapping[tuple[str, int], Covered], shelf: Shelf, progress: BatchProgress
) -> Iterator[str]:
    for partition in reader.partitions(topic):
        begin, end = reader.begin_offset(topic, partition), reader.end_offset(topic, partition)
        found = archived.get((topic, partition), Covered(topic, partition, begin, begin))
        reading = Reading(shelf, topic, archived=False, begins_late=found.first > 0)
        position = found.next
        if position > end:
            raise ConfigurationError(
                f"{topic}/{partition}: the archive has come to offset {position}, this log ends at {end}: it is another one",
                remedy="name the log that was archived; if that is lost, leave --source out and give --final",
            )
        while position < end:
            progress.check()
            try:
                records = reader.read(topic, partition, position, max_records=_READ_RECORDS, max_bytes=_READ_BYTES, timeout=1.0)
            except OffsetExpired as expired:
                yield f"{topic}/{partition}: offsets {position} to {expired.begin - 1} are neither archived nor in the log"
                position = expired.begin
                continue
            if not records:
                break
            reading.take([record.key for record in records], [record.value for record in records])
            position = records[-1].offset + 1
