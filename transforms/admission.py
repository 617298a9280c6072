"""What becomes of the blocks of a partition: decoding, identity, and setting aside what comes too late or from the future.

Plain functions of columns, without Beam.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.registry import EventSchema
from transforms.block import Block
from transforms.decode import Decoded, Decoder, Events
from transforms.identity import Frames, Gap, PartitionIdentity
from transforms.letters import DeadLetter, Flags, of_damaged, of_set_aside
from transforms.windows import WindowSpec, latest_close, longest

PartitionKey = tuple[str, int]
_STATE: Final = struct.Struct("<qq")
#: Before all event times, µs; Beam's least timestamp.
BEFORE_ALL: Final = -9_223_372_036_854_775_000
#: 0001-01-01T00:00:00Z, before which no store can tell where a window begins.
_YEAR_1: Final = -62_135_596_800_000_000
#: µs for which an epoch is known at least after its last event.
_REMEMBERED: Final = 86_400_000_000


def wall_clock() -> int:
    """µs since 1970, UTC."""
    return time.time_ns() // 1_000


class Admitted(NamedTuple):
    """New events of one schema, with where they came from."""

    columns: pl.DataFrame
    topic: str
    partition: int
    #: Offset after the block they were in.
    next_offset: int
    #: The source's watermark when the block was read, µs since 1970, UTC; no event below it is on time.
    watermark: int


class GapRow(NamedTuple):
    """A `transforms.identity.Gap` with where it is and when it was found, µs since 1970, UTC."""

    topic: str
    partition: int
    gap: Gap
    detected_at: int


class ReportedGap(NamedTuple):
    """A gap that was reported as open: events ``first`` to ``last``, inclusive."""

    gateway: str
    epoch: int
    first: int
    last: int


class Note(NamedTuple):
    """What became of one block; times in µs since 1970, UTC."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    #: Highest of all event times and source watermarks up to ``next_offset``: it never falls (decision 003).
    mark: int
    watermark: int
    #: Newest event time that was not from the future.
    newest: int
    append_time: int
    size: int
    frames: int
    events: int
    admitted: int
    duplicates: int
    late: int
    too_late: int
    future: int
    dead: int
    #: State of identity after the block, on some notes only: where a restart may begin.
    snapshot: bytes | None


@dataclass(frozen=True)
class AdmitSettings:
    """What `Admit` needs to know; it goes through pickle with the pipeline."""

    schemas: tuple[EventSchema, ...]
    windows: tuple[WindowSpec, ...] = ()
    #: How far, in µs, event times may be ahead of the clock.
    future_bound: int = 300_000_000
    #: µs between snapshots of identity; 0 for none.
    snapshot_every: int = 1_000_000
    #: States to begin with, by partition, from snapshots.
    seeds: Mapping[PartitionKey, bytes] | None = None
    #: By partition: the offset up to which everything had gone through before the job was started again.
    done: Mapping[PartitionKey, int] | None = None
    native: bool = True
    clock: Callable[[], int] = wall_clock


class Admission:
    """Takes in the blocks of one partition, one after the other. No Beam here."""

    def __init__(self, settings: AdmitSettings, decoder: Decoder, state: bytes | None) -> None:
        self._settings = settings
        self._decoder = decoder
        self.mark, self.newest, self.identity = _unpacked(state)

    def pack(self) -> bytes:
        return _STATE.pack(self.mark, self.newest) + self.identity.pack()

    def forget(self, watermark: int) -> None:
        """Let go of epochs that are long over at ``watermark``, so that the state stays small."""
        longest_open = max((window.size + window.allowed_lateness for window in self._settings.windows), default=0)
        self.identity.forget(watermark - max(_REMEMBERED, 2 * longest_open))

    def take(self, block: Block) -> tuple[list[Admitted], list[DeadLetter], list[Gap], Note]:
        now = self._settings.clock()
        frames = block.frames()
        decoded = self._decoder.decode(frames)
        limit = now + self._settings.future_bound
        times = [part.columns.get_column("event_time").to_numpy() for part in decoded.events]
        self._see(times, limit, block.watermark)
        letters = list(of_damaged(block, frames, decoded.dead, detected_at=now))
        fresh, gaps = self._identify(decoded, block.watermark)
        admitted: list[Admitted] = []
        counts = dict.fromkeys(("events", "admitted", "late", "too-late", "too-early", "future"), 0)
        done = (self._settings.done or {}).get((block.topic, block.partition), -1)
        for part, time_of, new in zip(decoded.events, times, fresh, strict=True):
            late, aside = self._set_aside(time_of, new, limit, block.watermark)
            told: list[tuple[str, Flags]] = []
            for kind, chosen in aside:
                new = _and_not(new, chosen)
                # What had its turn before a restart was counted then; only its windows are closed for good now.
                reported = chosen & _after(block, part, done) if kind == "too-late" and done > block.first_offset else chosen
                counts[kind] += int(reported.sum())
                told.append((kind, reported))
            letters += of_set_aside(block, frames, part, told, detected_at=now)
            columns = part.columns if new is None else part.columns.filter(pl.Series(new))
            counts["events"] += len(time_of)
            counts["late"] += late
            counts["admitted"] += len(columns)
            if len(columns):
                admitted.append(Admitted(columns, block.topic, block.partition, block.next_offset, block.watermark))
        set_aside = counts["too-late"] + counts["too-early"] + counts["future"]
        note = Note(
            block.topic,
            block.partition,
            block.first_offset,
            block.next_offset,
            self.mark,
            block.watermark,
            self.newest,
            block.append_time,
            len(block.data),
            len(frames),
            counts["events"],
            counts["admitted"],
            counts["events"] - counts["admitted"] - set_aside,
            counts["late"],
            counts["too-late"] + counts["too-early"],
            counts["future"],
            len(decoded.dead),
            None,
        )
        return admitted, letters, gaps, note

    def _see(self, times: Sequence[npt.NDArray[np.int64]], limit: int, watermark: int) -> None:
        for time_of in times:
            newest = int(time_of.max())
            if newest > limit:
                newest = int(time_of[time_of <= limit].max(initial=BEFORE_ALL))
            self.newest = max(self.newest, newest)
        self.mark = max(self.mark, self.newest, watermark)

    def _identify(self, decoded: Decoded, watermark: int) -> tuple[list[Flags | None], list[Gap]]:
        """Flags of the new events of every part (None: all of them), and gaps."""
        gaps: list[Gap] = []
        fresh: list[Flags | None] = []
        for part, (frames, starts) in zip(decoded.events, map(_frames_of, decoded.events), strict=True):
            new, partly, closed = self.identity.admit(frames, newest=self.newest)
            gaps += closed
            if (new == part.counts).all():
                fresh.append(None)
                continue
            flags: Flags = np.repeat(new == part.counts, part.counts)
            for frame, start, end in partly:
                flags[starts[frame] + start : starts[frame] + end] = True
            fresh.append(flags)
        # What a gateway says of its epochs follows what it sent before, however its frames are cut into blocks.
        for _, record in decoded.control:
            gaps += self.identity.control(record, newest=self.newest)
        return fresh, gaps + self.identity.overdue(watermark)

    def _set_aside(
        self, times: npt.NDArray[np.int64], new: Flags | None, limit: int, watermark: int
    ) -> tuple[int, list[tuple[str, Flags]]]:
        """How many new events are late though not too late, and flags of those that are set aside, by kind."""
        aside: list[tuple[str, Flags]] = []
        if int(times.max()) > limit:
            aside.append(("future", _and(times > limit, new)))
        least = int(times.min())
        if least < (first := _YEAR_1 + longest(self._settings.windows)):
            aside.append(("too-early", _and(times < first, new)))
        if least >= watermark:
            return 0, aside
        late = _and((times < watermark) & (times >= first), new)
        closed = latest_close(self._settings.windows, least)
        if closed is not None and closed <= watermark:
            too_late = late & self._all_closed(times, watermark)
            if too_late.any():
                aside.append(("too-late", too_late))
                late = late & ~too_late
        return int(late.sum()), aside

    def _all_closed(self, times: npt.NDArray[np.int64], watermark: int) -> Flags:
        closed = np.ones(len(times), np.bool_)
        for window in self._settings.windows:
            closed &= times // window.every * window.every + (window.size + window.allowed_lateness) <= watermark
        return closed


def with_reported(state: bytes | None, gaps: Iterable[ReportedGap]) -> tuple[bytes, list[ReportedGap]]:
    """A state that knows of gaps which an earlier life of the job has reported as open, and those of them that it can forget."""
    mark, newest, identity = _unpacked(state)
    identity.begin_again()
    forgotten = [gap for gap in gaps if not identity.remember(*gap)]
    return _STATE.pack(mark, newest) + identity.pack(), forgotten


def _unpacked(state: bytes | None) -> tuple[int, int, PartitionIdentity]:
    if not state:
        return BEFORE_ALL, BEFORE_ALL, PartitionIdentity()
    mark, newest = _STATE.unpack_from(state)
    return mark, newest, PartitionIdentity.unpack(state[_STATE.size :])


def _frames_of(part: Events) -> tuple[Frames, npt.NDArray[np.int64]]:
    """The frames of a part, and the row each begins at."""
    starts = np.cumsum(part.counts) - part.counts
    heads = part.columns.select("gateway", "epoch", "seq")
    if len(starts) < len(heads):
        heads = heads[starts]
    gateways = heads.get_column("gateway").to_list()
    return Frames(gateways, heads.get_column("epoch").to_numpy(), heads.get_column("seq").to_numpy(), part.counts), starts


def _after(block: Block, part: Events, done: int) -> Flags:
    """Which rows are of frames at or after the offset ``done``."""
    flags: Flags = np.repeat(block.first_offset + block.offsets[part.places] >= done, part.counts)
    return flags


def _and(flags: Flags, more: Flags | None) -> Flags:
    return flags if more is None else flags & more


def _and_not(flags: Flags | None, removed: Flags) -> Flags:
    return ~removed if flags is None else flags & ~removed
