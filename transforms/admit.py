"""Blocks in, admitted events out: `transforms.admission` as a stateful step, one key per partition."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from schemas.registry import Schemas
from transforms.admission import (
    BEFORE_ALL,
    Admission,
    AdmitSettings,
    Admitted,
    DeadLetter,
    GapRow,
    Note,
    PartitionKey,
    wall_clock,
)
from transforms.block import decode_block
from transforms.decode import Decoder
from transforms.identity import Gap

__all__ = [
    "ADMITTED",
    "BEFORE_ALL",
    "DEAD",
    "GAPS",
    "NOTES",
    "Admission",
    "Admit",
    "AdmitSettings",
    "Admitted",
    "DeadLetter",
    "GapRow",
    "Note",
    "PartitionKey",
    "partition_key",
    "partition_of",
    "wall_clock",
]

ADMITTED: Final = "admitted"
DEAD: Final = "dead"
GAPS: Final = "gaps"
NOTES: Final = "notes"


class Admit(beam.DoFn):
    """Stateful, one key per partition: ``(key, block as bytes)`` in; see the tags `ADMITTED`, `DEAD`, `GAPS`, `NOTES`."""

    STATE = ReadModifyWriteStateSpec("state", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def __init__(self, settings: AdmitSettings) -> None:
        self._settings = settings
        self._snapshots: dict[PartitionKey, tuple[int, int]] = {}

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(Schemas(self._settings.schemas), native=self._settings.native)

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings, "_snapshots": {}}

    def process(
        self,
        element: tuple[str, bytes],
        state: Any = beam.DoFn.StateParam(STATE),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        block = decode_block(element[1])
        key = (block.topic, block.partition)
        admission = Admission(self._settings, self._decoder, state.read() or (self._settings.seeds or {}).get(key))
        admitted, letters, gaps, note = admission.take(block)
        if self._settings.windows:
            lateness = max(window.size + window.allowed_lateness for window in self._settings.windows)
            admission.identity.forget(block.watermark - 2 * lateness)
        packed = admission.pack()
        state.write(packed)
        when = admission.identity.next_due()
        if when is not None:
            due.set(_wake(max(when, block.watermark)))
        yield from admitted
        yield from (beam.pvalue.TaggedOutput(DEAD, letter) for letter in letters)
        yield from self._gap_rows(block.topic, gaps)
        yield beam.pvalue.TaggedOutput(NOTES, note._replace(snapshot=packed if self._is_snapshot_due(key, note) else None))

    @on_timer(DUE)
    def on_due(
        self,
        key: str = beam.DoFn.KeyParam,
        time: Timestamp = beam.DoFn.TimestampParam,
        state: Any = beam.DoFn.StateParam(STATE),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        packed = state.read()
        if not packed:
            return
        admission = Admission(self._settings, self._decoder, packed)
        gaps = admission.identity.overdue(time.micros)
        when = admission.identity.next_due()
        if when is not None:
            due.set(_wake(when))
        state.write(admission.pack())
        yield from self._gap_rows(partition_of(key)[0], gaps)

    def _gap_rows(self, topic: str, gaps: Iterable[Gap]) -> Iterator[Any]:
        now = self._settings.clock()
        yield from (beam.pvalue.TaggedOutput(GAPS, GapRow(topic, gap, now)) for gap in gaps)

    def _is_snapshot_due(self, key: PartitionKey, note: Note) -> bool:
        if not self._settings.snapshot_every:
            return False
        now = time.monotonic_ns() // 1_000
        before, mark = self._snapshots.get(key, (0, BEFORE_ALL))
        if now - before < self._settings.snapshot_every or note.mark == mark:
            return False
        self._snapshots[key] = (now, note.mark)
        return True


def _wake(time: int) -> Timestamp:
    """The first whole millisecond not before ``time`` (µs): a runner cuts timers to milliseconds, and one cut to before its
    own time would find nothing due, and be set again, for ever."""
    return Timestamp(micros=-(-time // 1_000) * 1_000)


def partition_key(topic: str, partition: int) -> str:
    """The key of a partition's blocks."""
    return f"{topic}/{partition}"


def partition_of(key: str) -> PartitionKey:
    """The inverse of `partition_key`."""
    topic, _, partition = key.rpartition("/")
    return topic, int(partition)
