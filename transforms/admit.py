"""Blocks in, admitted events out: `transforms.admission` as a stateful step, one key per partition."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from schemas.registry import Schemas
from transforms.admission import (
    BEFORE_ALL,
    Admission,
    AdmitSettings,
    Admitted,
    GapRow,
    Note,
    PartitionKey,
    wall_clock,
)
from transforms.block import decode_block
from transforms.decode import Decoder
from transforms.identity import Gap
from transforms.letters import DeadLetter

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
    """Stateful, one key per partition: ``(key, block as bytes)`` in; see the tags `ADMITTED`, `DEAD`, `GAPS`, `NOTES`.

    It sets no timers: the source says by a block without frames that a partition is quiet. An event-time timer would wait for the
    slowest partition of the job, and a runner may hold back what comes after it.
    """

    STATE = ReadModifyWriteStateSpec("state", BytesCoder())

    def __init__(self, settings: AdmitSettings) -> None:
        self._settings = settings
        self._snapshots: dict[PartitionKey, tuple[int, int]] = {}

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(Schemas(self._settings.schemas), native=self._settings.native)

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings, "_snapshots": {}}

    def process(self, element: tuple[str, bytes], state: Any = beam.DoFn.StateParam(STATE)) -> Iterator[Any]:
        block = decode_block(element[1])
        key = (block.topic, block.partition)
        admission = Admission(self._settings, self._decoder, state.read() or (self._settings.seeds or {}).get(key))
        if not len(block):
            gaps = admission.identity.settle()
            state.write(admission.pack())
            yield from self._gap_rows(key, gaps)
            return
        admitted, letters, gaps, note = admission.take(block)
        admission.forget(block.watermark)
        packed = admission.pack()
        state.write(packed)
        yield from admitted
        yield from (beam.pvalue.TaggedOutput(DEAD, letter) for letter in letters)
        yield from self._gap_rows(key, gaps)
        yield beam.pvalue.TaggedOutput(NOTES, note._replace(snapshot=packed if self._is_snapshot_due(key, note) else None))

    def _gap_rows(self, key: PartitionKey, gaps: Iterable[Gap]) -> Iterator[Any]:
        now = self._settings.clock()
        yield from (beam.pvalue.TaggedOutput(GAPS, GapRow(*key, gap, now)) for gap in gaps)

    def _is_snapshot_due(self, key: PartitionKey, note: Note) -> bool:
        if not self._settings.snapshot_every:
            return False
        now = time.monotonic_ns() // 1_000
        before, mark = self._snapshots.get(key, (0, BEFORE_ALL))
        if now - before < self._settings.snapshot_every or note.mark == mark:
            return False
        self._snapshots[key] = (now, note.mark)
        return True


def partition_key(topic: str, partition: int) -> str:
    """The key of a partition's blocks."""
    return f"{topic}/{partition}"


def partition_of(key: str) -> PartitionKey:
    """The inverse of `partition_key`."""
    topic, _, partition = key.rpartition("/")
    return topic, int(partition)
