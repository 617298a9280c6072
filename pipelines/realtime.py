"""The real-time job: logs in; windows, rules, latest values, gaps and dead letters out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.archive import ArchiveLog
from pipelines.commands import CommandSettings
from pipelines.counts import TOO_LATE_FOR
from pipelines.resume import Resume, StoreProgress
from pipelines.rules import ApplyRules
from pipelines.session import session_of
from pipelines.sinks import Write, one_dead_letter, one_gap
from pipelines.sources.discovery import Partitions, ReadLog, Source
from pipelines.sources.log import ReadSettings
from pipelines.state import open_state
from schemas.registry import EventSchema
from transforms.admit import ADMITTED, DEAD, GAPS, NOTES, Admit, AdmitSettings, GapRow, Note
from transforms.identity import REPORTED_BEFORE
from transforms.latest import Latest
from transforms.progress import WatermarkBehind, granule_of
from transforms.rules import Rule
from transforms.windowing import AggregateInWindows
from transforms.windows import WindowSpec


@dataclass(frozen=True)
class Realtime:
    """All that the job's graph is made from."""

    job: str
    sources: tuple[Source, ...]
    read: ReadSettings
    schemas: tuple[EventSchema, ...]
    windows: tuple[WindowSpec, ...]
    sinks: tuple[str, ...]
    resume: Resume
    state: Path | None = None
    #: URL of the journal that raw frames go to; empty for none.
    archive: str = ""
    rules: tuple[Rule, ...] = ()
    #: Where the rules' commands go; needed with rules.
    commands: CommandSettings | None = None
    shards: int = 1

    def build_archive(self, pipeline: beam.Pipeline) -> None:
        """Put the archive's branch alone into ``pipeline``."""
        partitions = pipeline | "Partitions" >> Partitions(self.sources, self.read)
        _ = partitions | "Archive" >> ArchiveLog(self.job, self.archive, self.schemas, until_end=self.read.until_end)

    def build(self, pipeline: beam.Pipeline) -> None:
        """Put the graph into ``pipeline``."""
        settings = AdmitSettings(
            self.schemas,
            self.windows,
            future_bound=self.read.future_bound,
            snapshot_every=1_000_000 if self.state else 0,
            seeds=self.resume.seeds,
            done=self.resume.resumption.done,
            clock=self.read.clock,
        )
        partitions = pipeline | "Partitions" >> Partitions(self.sources, self.read)
        if self.archive:
            _ = partitions | "Archive" >> ArchiveLog(self.job, self.archive, self.schemas, until_end=self.read.until_end)
        blocks = partitions | "Log" >> ReadLog(self.read)
        admitted = blocks | "Admit" >> beam.ParDo(Admit(settings)).with_outputs(DEAD, GAPS, NOTES, main=ADMITTED)
        notes = admitted[NOTES] | "Count" >> beam.ParDo(CountBlocks(self.job))
        written = [
            admitted[DEAD] | "DeadLetterRows" >> beam.Map(one_dead_letter) | "DeadLetters" >> self._write("dead_letters"),
            admitted[GAPS] | "GapRows" >> beam.ParDo(CountGaps(self.job, self.state)) | "Gaps" >> self._write("gaps"),
        ]
        latest = admitted[ADMITTED] | "Latest" >> Latest(clock=self.read.clock)
        written.append(latest | "LatestValues" >> self._write("latest"))
        inputs = {"events": admitted[ADMITTED]}
        if self.windows:
            aggregated = admitted[ADMITTED] | "Aggregate" >> AggregateInWindows(
                self.windows,
                shards=self.shards,
                resumption=self.resume.resumption,
                clock=self.read.clock,
                missed=partial(count_missed, self.job),
            )
            written.append(aggregated.pop("corrections"))
            if "rows" in aggregated:
                written.append(aggregated["rows"] | "Aggregates" >> self._write("aggregates"))
            if "sessions" in aggregated:
                written.append(aggregated["sessions"] | "SessionRows" >> self._write("sessions"))
            found = tuple(aggregated.values())
            inputs["windows"] = found[0] if len(found) == 1 else found | "WindowRows" >> beam.Flatten()
        if self.rules and self.commands is not None:
            written.append(inputs | "Rules" >> ApplyRules(self.rules, self.commands, shards=self.shards, clock=self.read.clock))
        if self.state is not None:
            done = (notes, *written) | "Written" >> beam.Flatten()
            progress = done | "Progress" >> WatermarkBehind(granule_of(self.windows))
            _ = progress | "State" >> beam.ParDo(StoreProgress(self.job, self.state, self.windows))

    def _write(self, table: str) -> Write:
        return Write(self.job, table, self.sinks)


def count_missed(job: str, window: str, events: int) -> None:
    """Count events that came too late for a window."""
    session_of(job).counts.add(f"{TOO_LATE_FOR}{window}", events)


class CountBlocks(beam.DoFn):
    """Notes in and out: counts them, and gives their bytes back to the source."""

    def __init__(self, job: str) -> None:
        self._job = job

    def process(self, note: Note) -> Iterator[Note]:
        session = session_of(self._job)
        session.credit.give_back(note.size)
        session.counts.note(note)
        yield note


class CountGaps(beam.DoFn):
    """Gap rows in, rows of the table out, counted. ``missing``: events found missing in this life of the job, and not declared.

    What is written as open is in the job's state first: a job that is started again knows what it may have to close.
    """

    def __init__(self, job: str, state: Path | None) -> None:
        self._job = job
        self._state = state

    def process(self, row: GapRow) -> Iterator[Any]:
        counts = session_of(self._job).counts
        counts.add(f"gaps_{row.gap.state}")
        if row.gap.state != "declared":
            known = row.gap.reason != REPORTED_BEFORE
            counts.add("missing", row.gap.count if row.gap.state == "open" else -row.gap.count * known)
        if self._state is not None and row.gap.state == "open":
            open_state(self._state).report_gap(row)
        yield one_gap(row)
