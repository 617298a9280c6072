"""Bounded input of ``reprocess``: hours of events, or partitions of a journal, as the real-time job's step `Admit` gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import apache_beam as beam
import polars as pl

from pipelines.batch import notes
from pipelines.batch.choosing import Choice
from pipelines.batch.notes import Counted
from pipelines.batch.progress import progress_of
from schemas.registry import EventSchema, Schemas
from storage import open_journal
from storage.events.files import open_files
from storage.events.hours import events_of
from storage.events.layout import Hour
from storage.events.manifest import Covered
from storage.events.schema import TOPIC
from storage.events.sorting import blocks_of
from transforms.admission import BEFORE_ALL, Admission, AdmitSettings, Admitted, GapRow, wall_clock
from transforms.admit import ADMITTED, DEAD, GAPS
from transforms.block import block_of
from transforms.decode import Decoder

COUNTED: Final = "counted"


@dataclass(frozen=True)
class InputSettings:
    """What the functions need; it goes through pickle with the pipeline."""

    job: str
    url: str
    work: str
    folder: str
    choice: Choice
    schemas: tuple[EventSchema, ...]
    #: How far, in µs, event times may be ahead of the clock.
    future_bound: int


class EventHours(beam.DoFn):
    """Paths of hours in, `Admitted` out. Nothing is late: all there is was read."""

    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings

    def process(self, element: str) -> Iterator[Admitted]:
        settings = self._settings
        files = open_files(settings.url)
        number = 0
        for _, events in events_of(files, Hour.parse(element)):
            progress_of(settings.job).check()
            chosen = settings.choice.of(events, limit=wall_clock() + settings.future_bound)
            number += len(chosen)
            if len(chosen):
                yield Admitted(chosen.drop(TOPIC), "", 0, 0, BEFORE_ALL)
        notes.leave(open_files(settings.work), settings.folder, COUNTED, Counted(events=number))
        progress_of(settings.job).advance()


class JournalPartitions(beam.DoFn):
    """`Covered` in; `Admitted` out, and what else `transforms.admit.Admit` gives, under its tags.

    A partition is read from its beginning: only then is it known what is there twice, and what is missing.
    """

    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings

    def process(self, element: Covered) -> Iterator[Any]:
        settings = self._settings
        schemas = Schemas(settings.schemas)
        admission = Admission(
            AdmitSettings(settings.schemas, future_bound=settings.future_bound, snapshot_every=0), Decoder(schemas), None
        )
        journal = open_journal(settings.url, schemas)
        counted = Counted()
        position = element.first
        gaps = []
        try:
            for records in blocks_of(journal.read(element.topic, element.partition, start=element.first, end=element.next)):
                block = block_of(element.topic, element.partition, records, watermark=BEFORE_ALL)
                admitted, letters, found, note = admission.take(block)
                gaps += found
                counted = counted.plus(Counted(0, note.duplicates, note.future, note.dead))
                for part in admitted:
                    chosen = settings.choice.of(part.columns.with_columns(pl.lit(element.topic).alias(TOPIC))).drop(TOPIC)
                    counted = counted.plus(Counted(events=len(chosen)))
                    if len(chosen):
                        yield beam.pvalue.TaggedOutput(ADMITTED, part._replace(columns=chosen))
                yield from (beam.pvalue.TaggedOutput(DEAD, letter) for letter in letters)
                progress_of(settings.job).advance(block.next_offset - position)
                position = block.next_offset
        finally:
            journal.close()
        now = wall_clock()
        gaps += admission.identity.settle()
        yield from (beam.pvalue.TaggedOutput(GAPS, GapRow(element.topic, element.partition, gap, now)) for gap in gaps)
        notes.leave(open_files(settings.work), settings.folder, COUNTED, counted)
        progress_of(settings.job).advance(element.next - position)
