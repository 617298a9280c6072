"""Which events of a partition were seen before, and which are missing. Plain Python and numpy, no Beam.

Identity is (gateway, epoch, topic, seq). `PartitionIdentity` is the state of one partition of one topic; a gateway is in one
partition of a topic, because its frames are keyed by it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from schemas.control import Control, Dropped
from transforms.intervals import Interval, IntervalSet

#: Why a gap is closed that was reported as open in another life of the job.
REPORTED_BEFORE: Final = "reported before a restart"

#: Before all event times, µs.
_NEVER: Final = -(2**63)

Ints = npt.NDArray[np.int64]
GapState = Literal["open", "closed", "declared"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Events ``first`` to ``last``, inclusive, that are missing, or were. Closing rows carry the range they close."""

    gateway: str
    epoch: int
    first: int
    last: int
    state: GapState
    reason: str = ""

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames in the order they were read: gateway, epoch, first seq and number of events of each."""

    gateways: list[str]
    epochs: Ints
    firsts: Ints
    counts: Ints


@dataclass(slots=True)
class _Epoch:
    seen: IntervalSet = field(default_factory=IntervalSet)
    #: Holes not yet reported, by their first seq: (first, next, newest event time when they were found).
    waiting: list[tuple[int, int, int]] = field(default_factory=list)
    #: Reported as open, half-open intervals.
    open: list[Interval] = field(default_factory=list)
    #: Reported as open by an earlier life of the job, which may or may not have come to write it down; half-open intervals.
    told: list[Interval] = field(default_factory=list)
    #: Declared by the gateway, half-open, with the reason.
    declared: list[tuple[int, int, str]] = field(default_factory=list)
    #: Newest event time in the partition when something of it was read last, µs since 1970, UTC.
    newest: int = _NEVER


class PartitionIdentity:
    """State of a partition; `pack` and `unpack` make it bytes."""

    def __init__(self) -> None:
        self._epochs: dict[tuple[str, int], _Epoch] = {}
        #: By gateway: the newest epoch that was forgotten.
        self._forgotten: dict[str, int] = {}

    def admit(self, frames: Frames, *, newest: int) -> tuple[npt.NDArray[np.int64], list[tuple[int, int, int]], list[Gap]]:
        """Take frames in. ``newest`` is the newest event time read so far in the partition, theirs included.

        Returns how many events of each frame are new; for frames of which only some are, (frame, first new, next) in
        places within the frame; and gaps that late frames have closed or split.
        """
        new = np.zeros(len(frames.counts), np.int64)
        partly: list[tuple[int, int, int]] = []
        gaps: list[Gap] = []
        for gateway, number, first, following, members in _runs(frames):
            epoch = self._touch(gateway, number, newest)
            before = epoch.seen.next if len(epoch.seen) else first
            added = epoch.seen.add(first, following)
            if len(added) == 1 and added[0] == (first, following):
                new[members] = frames.counts[members]
            else:
                for member in members.tolist():
                    _mark(member, frames, added, new, partly)
            if first > before:
                epoch.waiting.append((before, first, newest))
            if added and (epoch.open or epoch.told):
                # A reported gap that is filled closes; what remains of it opens again.
                gaps += _shrink(epoch, gateway, number, added, "", "in part: see what is left")
        return new, partly, gaps

    def control(self, record: Control, *, newest: int) -> list[Gap]:
        """Take in what a gateway says of its epochs: gaps that it explains, or that follow from it."""
        if isinstance(record, Dropped):
            return _declare(self._touch(record.gateway, record.epoch, newest), record)
        started = self._touch(record.gateway, record.epoch, newest)
        # Its first event is 0: what comes before the first one seen is missing, also when this comes after that.
        if started.seen.add(-1, 0):
            started.waiting += [(first, following, newest) for first, following in started.seen.holes()]
        if record.previous_epoch is None or record.previous_last is None:
            return []
        if not self._knows(record.gateway, record.previous_epoch):
            return []
        before = self._touch(record.gateway, record.previous_epoch, newest)
        first = before.seen.next if len(before.seen) else 0
        if first <= record.previous_last:
            before.waiting.append((first, record.previous_last + 1, newest))
        return []

    def overdue(self, watermark: int) -> list[Gap]:
        """Holes found before the event time ``watermark`` that are still open; reported once."""
        gaps: list[Gap] = []
        for (gateway, number), epoch in self._epochs.items():
            if not epoch.waiting or epoch.waiting[0][2] > watermark:
                continue
            due = [hole for hole in epoch.waiting if hole[2] <= watermark]
            epoch.waiting = [hole for hole in epoch.waiting if hole[2] > watermark]
            for first, following, _ in due:
                for start, end in _without(first, following, [*epoch.seen, *((a, b) for a, b, _ in epoch.declared), *epoch.open]):
                    epoch.open.append((start, end))
                    epoch.told = _less(epoch.told, [(start, end)])
                    gaps.append(Gap(gateway, number, start, end - 1, "open"))
            epoch.open.sort()
        return gaps

    def settle(self) -> list[Gap]:
        """All holes that are still open, whenever they were found: what was to fill them has had its time."""
        return self.overdue(2**63 - 1)

    def begin_again(self) -> None:
        """A new life of the job begins with this state: what was reported as open was so by an earlier one."""
        for epoch in self._epochs.values():
            epoch.told, epoch.open = sorted(epoch.told + epoch.open), []

    def remember(self, gateway: str, number: int, first: int, last: int) -> bool:
        """Take in a gap that an earlier life of the job has reported as open: if it is filled now, it must be closed.

        False when there is no use in that: all of it was seen, or its epoch is long over and forgotten.
        """
        if self._is_forgotten(gateway, number):
            return False
        epoch = self._epochs.setdefault((gateway, number), _Epoch())
        left = _less([(first, last + 1)], [*epoch.seen])
        epoch.told = sorted(epoch.told + _less(left, epoch.told))
        return bool(left)

    def forget(self, before: int) -> None:
        """Drop epochs whose newest event is older than ``before`` and that a newer epoch has followed.

        One that is only remembered is still to be read again.
        """
        last: dict[str, int] = {}
        for gateway, number in self._epochs:
            last[gateway] = max(last.get(gateway, number), number)
        for (gateway, number), epoch in list(self._epochs.items()):
            remembered = epoch.told and epoch.newest == _NEVER
            if number < last[gateway] and epoch.newest < before and not epoch.waiting and not remembered:
                del self._epochs[gateway, number]
                self._forgotten[gateway] = max(number, self._forgotten.get(gateway, number))

    def _knows(self, gateway: str, number: int) -> bool:
        """Whether an epoch was read, or must have been missed; not when reading began after it, or it was forgotten."""
        read = [epoch for (of, epoch), found in self._epochs.items() if of == gateway and found.newest != _NEVER]
        return number in read or (not self._is_forgotten(gateway, number) and min(read, default=number) < number)

    def _is_forgotten(self, gateway: str, number: int) -> bool:
        return number <= self._forgotten.get(gateway, number - 1) and (gateway, number) not in self._epochs

    def _touch(self, gateway: str, number: int, newest: int) -> _Epoch:
        """An epoch of which something was read just now."""
        epoch = self._epochs.get((gateway, number))
        if epoch is None:
            epoch = self._epochs[gateway, number] = _Epoch()
        epoch.newest = max(epoch.newest, newest)
        return epoch

    def pack(self) -> bytes:
        epochs = [
            [gateway, number, [*epoch.seen], epoch.waiting, epoch.open, epoch.declared, epoch.newest, epoch.told]
            for (gateway, number), epoch in self._epochs.items()
        ]
        return json.dumps([epochs, self._forgotten], separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, data: bytes) -> PartitionIdentity:
        state = cls()
        epochs, state._forgotten = json.loads(data)
        for gateway, number, seen, waiting, opened, declared, newest, told in epochs:
            state._epochs[gateway, number] = _Epoch(
                IntervalSet([(first, following) for first, following in seen]),
                [(first, following, time) for first, following, time in waiting],
                [(first, following) for first, following in opened],
                [(first, following) for first, following in told],
                [(first, following, reason) for first, following, reason in declared],
                newest,
            )
        return state


def _runs(frames: Frames) -> Iterator[tuple[str, int, int, int, Ints]]:
    """Gateway, epoch, first seq, next seq and member frames of maximal runs of consecutive frames."""
    if not len(frames.counts):
        return
    names: dict[str, int] = {}
    codes = np.fromiter((names.setdefault(name, len(names)) for name in frames.gateways), np.int64, len(frames.gateways))
    order = np.arange(len(codes))
    # Frames of many gateways lie mixed; sorted, each gateway's are one run.
    if len(names) > 1 or (frames.epochs != frames.epochs[0]).any() or (np.diff(frames.firsts) < 0).any():
        order = np.lexsort((frames.firsts, frames.epochs, codes))
    codes, epochs, firsts, counts = codes[order], frames.epochs[order], frames.firsts[order], frames.counts[order]
    breaks = (
        np.flatnonzero((codes[1:] != codes[:-1]) | (epochs[1:] != epochs[:-1]) | (firsts[1:] != firsts[:-1] + counts[:-1])) + 1
    )
    gateways = list(names)
    bounds = [0, *breaks.tolist(), len(codes)]
    for start, end in itertools.pairwise(bounds):
        last = end - 1
        yield (
            gateways[int(codes[start])],
            int(epochs[start]),
            int(firsts[start]),
            int(firsts[last] + counts[last]),
            order[start:end],
        )


def _mark(member: int, frames: Frames, added: Iterable[Interval], new: Ints, partly: list[tuple[int, int, int]]) -> None:
    first = int(frames.firsts[member])
    following = first + int(frames.counts[member])
    parts = [(max(start, first), min(end, following)) for start, end in added if start < following and end > first]
    new[member] = sum(end - start for start, end in parts)
    if 0 < new[member] < following - first:
        partly += [(member, start - first, end - first) for start, end in parts]


def _shrink(epoch: _Epoch, gateway: str, number: int, gone: list[Interval], whole: str, in_part: str) -> list[Gap]:
    """Take ``gone`` out of the gaps that were reported. Reasons for those of which nothing and of which something is left."""
    gaps: list[Gap] = []
    kept: list[Interval] = []
    for first, following in epoch.open:
        left = _without(first, following, gone)
        kept += left
        if left != [(first, following)]:
            gaps.append(Gap(gateway, number, first, following - 1, "closed", in_part if left else whole))
            gaps += [Gap(gateway, number, start, end - 1, "open") for start, end in left]
    epoch.open = kept
    return gaps + _close_told(epoch, gateway, number, gone)


def _close_told(epoch: _Epoch, gateway: str, number: int, gone: list[Interval]) -> list[Gap]:
    """Rows that close what of ``gone`` an earlier life of the job may have written as open.

    Blocks are cut anew when they are read again: what was a hole between two may now come in one piece.
    """
    left = _less(epoch.told, gone)
    closed = _less(epoch.told, left)
    epoch.told = left
    return [Gap(gateway, number, start, end - 1, "closed", REPORTED_BEFORE) for start, end in closed]


def _less(intervals: list[Interval], gone: list[Interval]) -> list[Interval]:
    return [part for first, following in intervals for part in _without(first, following, gone)]


def _declare(epoch: _Epoch, record: Dropped) -> list[Gap]:
    declared = (record.first, record.last + 1, record.reason)
    if declared in epoch.declared:
        return []
    epoch.declared.append(declared)
    lost = _without(record.first, record.last + 1, epoch.seen)
    why = "the gateway has declared why"
    gaps = _shrink(epoch, record.gateway, record.epoch, lost, why, why)
    return gaps + [Gap(record.gateway, record.epoch, start, end - 1, "declared", record.reason) for start, end in lost]


def _without(first: int, following: int, others: Iterable[Interval]) -> list[Interval]:
    """What is left of ``[first, following)`` without ``others``."""
    left: list[Interval] = []
    position = first
    for start, end in sorted(others):
        if end <= position or start >= following:
            continue
        if start > position:
            left.append((position, start))
        position = max(position, end)
    if position < following:
        left.append((position, following))
    return left
