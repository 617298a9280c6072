"""Where a job starts again (decision 003), and noting while it runs what that will need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.session import session_of
from pipelines.state import JobState, open_state
from transforms.admission import with_reported
from transforms.admit import BEFORE_ALL, Note, PartitionKey
from transforms.progress import Passed, done, floor_of, restart
from transforms.windowing import Correction, Resumption
from transforms.windows import WindowSpec


@dataclass(frozen=True)
class Resume:
    """Where to begin. Empty for a job that has not run before."""

    resumption: Resumption = field(default_factory=Resumption)
    #: First offset to read, by partition; partitions that are not named begin at their beginning.
    starts: Mapping[PartitionKey, int] = field(default_factory=dict)
    #: States of identity as of these offsets.
    seeds: Mapping[PartitionKey, bytes] = field(default_factory=dict)
    #: Source watermarks as of these offsets, where they are below the floor: a recording of 2010 stays in its own time.
    watermarks: Mapping[PartitionKey, int] = field(default_factory=dict)


def resume(state: JobState | None, windows: Sequence[WindowSpec]) -> Resume:
    """Where a job with these windows and this state begins."""
    if state is None:
        return Resume()
    if state.watermark is None:
        # Killed before anything was complete: everything is read again, and what was reported must be known.
        unread: dict[PartitionKey, bytes] = {}
        _add_reported_gaps(state, unread)
        return Resume(seeds=unread)
    floor = floor_of(state.watermark, windows)
    starts: dict[PartitionKey, int] = {}
    passed: dict[PartitionKey, int] = {}
    seeds: dict[PartitionKey, bytes] = {}
    watermarks: dict[PartitionKey, int] = {}
    for key, marks in state.marks().items():
        start = restart(marks, floor)
        if start is not None:
            starts[key] = start
            watermarks[key] = min(floor, next(mark.watermark for mark in marks if mark.offset == start))
            snapshot = state.snapshot(key, start)
            if snapshot is not None:
                seeds[key] = snapshot
        finished = done(marks, state.watermark)
        if finished is not None:
            passed[key] = finished
    _add_reported_gaps(state, seeds)
    return Resume(Resumption(floor, passed), starts, seeds, watermarks)


def _add_reported_gaps(state: JobState, seeds: dict[PartitionKey, bytes]) -> None:
    """Put the gaps that were written as open into ``seeds``.

    The seeds are older than what was written: when a gap is filled by what is read again, its row must be closed.
    """
    for key, gaps in state.reported_gaps().items():
        seeds[key], forgotten = with_reported(seeds.get(key), gaps)
        state.forget_gaps(key, forgotten)


class StoreProgress(beam.DoFn):
    """`Note`, `Correction` and `Passed` in; written to the job's state when the bundle ends."""

    def __init__(self, job: str, directory: Path, windows: tuple[WindowSpec, ...]) -> None:
        self._job = job
        self._directory = directory
        self._windows = windows
        self._lateness = max((window.size + window.allowed_lateness for window in windows), default=0)
        self._notes: list[Note] = []
        self._corrections: list[Correction] = []
        self._watermark = BEFORE_ALL

    def start_bundle(self) -> None:
        self._notes, self._corrections, self._watermark = [], [], BEFORE_ALL

    def process(self, element: Any) -> Iterable[None]:
        if isinstance(element, Note):
            self._notes.append(element)
        elif isinstance(element, Correction):
            self._corrections.append(element)
        elif isinstance(element, Passed):
            self._watermark = max(self._watermark, element.watermark)
        return ()

    def finish_bundle(self) -> None:
        session = session_of(self._job)
        watermark = self._watermark if self._watermark > BEFORE_ALL else None
        if watermark is not None:
            session.counts.passed(watermark)
        if self._corrections:
            session.counts.add("corrections", len(self._corrections))
        notes = [note for note in self._notes if note.snapshot is not None]
        if notes or self._corrections or watermark is not None:
            state = open_state(self._directory)
            state.store(notes, self._corrections, watermark)
            if state.watermark is not None:
                floor = floor_of(state.watermark, self._windows)
                state.prune(restart_before=floor, correct_before=floor - self._lateness)
