"""The functions of ``compact``: ranges of the journal to runs of hours, runs to hours."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
import msgspec

from pipelines.batch import notes
from pipelines.batch.progress import progress_of
from schemas.registry import EventSchema, Schemas
from storage import open_journal
from storage.contract import JournalRecord
from storage.events.files import open_files
from storage.events.layout import Hour
from storage.events.manifest import Covered, Dropped, Format, Seen, Started
from storage.events.merging import Run, merge_hour
from storage.events.schema import stored
from storage.events.sorting import Sorter

#: Kinds of notes.
SORTED: Final = "sorted"
MERGED: Final = "merged"


class RangeNote(msgspec.Struct, frozen=True):
    """What a range of the journal held."""

    covered: Covered
    records: int
    events: int
    duplicates: int
    dead: int
    expired: list[Seen]
    dropped: list[Dropped]
    started: list[Started]
    unknown: dict[str, int]


class HourNote(msgspec.Struct, frozen=True):
    """What became of an hour."""

    hour: str
    rows: int
    new: int
    duplicates: int
    known: int
    bytes: int


@dataclass(frozen=True)
class CompactSettings:
    """What the functions need; it goes through pickle with the pipeline."""

    job: str
    url: str
    #: What `storage.events.files.Files.alone` gave.
    key: str
    staged: str
    schemas: tuple[EventSchema, ...]
    form: Format
    target_bytes: int
    generation: str
    kept_from: int | None


class SortRanges(beam.DoFn):
    """`Covered` in, ``(path of an hour, run as bytes)`` out."""

    def __init__(self, settings: CompactSettings) -> None:
        self._settings = settings

    def process(self, element: Covered) -> Iterator[tuple[str, bytes]]:
        settings = self._settings
        progress = progress_of(settings.job)
        files = open_files(settings.url, settings.key)
        journal = open_journal(settings.url, Schemas(settings.schemas))
        sorter = Sorter(files, settings.staged, Schemas(settings.schemas), settings.form, kept_from=settings.kept_from)
        records = journal.read(element.topic, element.partition, start=element.first, end=element.next)
        try:
            for hour, run in sorter.sort(element, _checked(records, progress.check), name=f"run-{uuid.uuid4().hex}"):
                yield hour, msgspec.msgpack.encode(run)
        finally:
            journal.close()
        note = RangeNote(
            element,
            sorter.records,
            sorter.events,
            sorter.duplicates,
            sorter.dead,
            sorter.expired,
            sorter.dropped,
            sorter.started,
            sorter.unknown,
        )
        notes.leave(files, settings.staged, SORTED, note)
        progress.advance(element.next - element.first)


def _checked(records: Iterable[JournalRecord], check: Callable[[], None]) -> Iterator[JournalRecord]:
    for number, record in enumerate(records):
        if number % 1_000 == 0:
            check()
        yield record


class MergeHours(beam.DoFn):
    """``(path of an hour, its runs)`` in, nothing out: the hour is in its place when the bundle ends."""

    def __init__(self, settings: CompactSettings) -> None:
        self._settings = settings

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[None]:
        settings = self._settings
        progress_of(settings.job).check()
        files = open_files(settings.url, settings.key)
        hour = Hour.parse(element[0])
        runs = [msgspec.msgpack.decode(run, type=Run) for run in element[1]]
        merged = merge_hour(
            files,
            hour,
            runs,
            {schema.fingerprint.hex(): stored(schema) for schema in settings.schemas},
            form=settings.form,
            target_bytes=settings.target_bytes,
            generation=settings.generation,
        )
        note = HourNote(str(hour), merged.rows, merged.new, merged.duplicates, merged.known, merged.bytes)
        notes.leave(files, settings.staged, MERGED, note)
        yield from ()
