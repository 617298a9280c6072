"""Event time as a source knows it, per partition, and the watermark that follows from it. Times in µs since 1970, UTC.

A partition's watermark is its newest event time less the bound on disorder while there is something to read. Read to its
end, it moves on at the pace of the clock from there, so that windows close in a quiet fleet and a recording of 2010 replays
in its own time. A partition that never had an event follows the others: it knows no time of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from schemas.errors import FrameError
from schemas.frame import first_times

BEFORE_ALL: Final = -9_223_372_036_854_775_000
#: Frames of a block whose first event is looked at.
_SAMPLES: Final = 12

PartitionKey = tuple[str, int]


@dataclass(slots=True)
class PartitionClock:
    """What is known of one partition."""

    watermark: int
    newest: int | None = None
    #: When it was read to its end, in µs of the monotonic clock; None while there is more.
    caught_up: int | None = None
    #: It had records when it was first looked at, so it will say what time it is.
    has_records: bool = False
    finished: bool = False
    #: It may have holes that the rest of the job waits to see filled; told that it is quiet, the job waits no longer.
    unsettled: bool = False

    @property
    def follows(self) -> bool:
        return self.newest is None and (not self.has_records or self.caught_up is not None)


class PartitionClocks:
    """The clocks of a job's partitions in this process."""

    def __init__(self, monotonic: Callable[[], int] = lambda: time.monotonic_ns() // 1_000) -> None:
        self._clocks: dict[PartitionKey, PartitionClock] = {}
        self._awaited: set[Hashable] = set()
        self._lock = threading.Lock()
        self._monotonic = monotonic

    def add(self, key: PartitionKey, *, watermark: int, has_records: bool) -> None:
        """Make a partition known before it is read. ``watermark`` is where it begins."""
        with self._lock:
            self._clocks.setdefault(key, PartitionClock(watermark, has_records=has_records, unsettled=has_records))

    def expect(self, sources: Iterable[Hashable]) -> None:
        """Sources whose partitions are still to be found: until `met` says so of all, no watermark follows from the others."""
        with self._lock:
            self._awaited.update(sources)

    def met(self, source: Hashable) -> None:
        """The partitions that ``source`` has were all made known."""
        if source in self._awaited:
            with self._lock:
                self._awaited.discard(source)

    def begin(self, key: PartitionKey) -> int:
        """Records are about to be sent on. Returns the partition's watermark, which nothing in them is to be stamped before."""
        with self._lock:
            clock = self._clocks[key]
            if clock.follows:
                clock.watermark = max(clock.watermark, self._least(clock.watermark))
            return clock.watermark

    def read(self, key: PartitionKey, newest: int | None, *, disorder: int) -> int:
        """Records were read, ``newest`` the newest event time seen in them, if any. Returns the partition's watermark now."""
        with self._lock:
            clock = self._clocks[key]
            clock.caught_up = None
            clock.unsettled = True
            if newest is not None:
                clock.newest = newest if clock.newest is None else max(clock.newest, newest)
            return self._move(clock, disorder)

    def quiet(self, key: PartitionKey, *, disorder: int) -> int:
        """Everything there is was read. Returns the watermark now."""
        with self._lock:
            clock = self._clocks[key]
            if clock.caught_up is None:
                clock.caught_up = self._monotonic()
            if clock.follows:
                clock.watermark = max(clock.watermark, self._least(clock.watermark))
                return clock.watermark
            return self._move(clock, disorder)

    def falls_quiet(self, key: PartitionKey, *, disorder: int) -> bool:
        """Whether nothing has come for ``disorder`` µs after it was read to its end. True once, until there are records again."""
        with self._lock:
            clock = self._clocks[key]
            if not clock.unsettled or clock.caught_up is None or self._monotonic() - clock.caught_up < disorder:
                return False
            clock.unsettled = False
            return True

    def quiet_for(self, key: PartitionKey | None = None) -> int:
        """µs since the partition, or the last of all of them, was read to its end; 0 while there is more."""
        with self._lock:
            clocks = self._clocks.values() if key is None else [self._clocks[key]]
            now = self._monotonic()
            since = [0 if clock.caught_up is None else now - clock.caught_up for clock in clocks if not clock.finished]
            return min(since, default=0)

    def finish(self, key: PartitionKey) -> None:
        """The partition will not be read any more."""
        with self._lock:
            self._clocks[key].finished = True

    def least(self) -> int:
        """The least watermark of the partitions that know the time; `BEFORE_ALL` when none does, or some are still expected."""
        with self._lock:
            return self._least(BEFORE_ALL)

    def watermark(self, key: PartitionKey) -> int:
        with self._lock:
            return self._clocks[key].watermark

    def is_known(self, key: PartitionKey) -> bool:
        with self._lock:
            return key in self._clocks

    def snapshot(self) -> dict[PartitionKey, PartitionClock]:
        """Copies of all clocks, for showing."""
        with self._lock:
            return {key: replace(clock) for key, clock in self._clocks.items()}

    def _least(self, otherwise: int) -> int:
        if self._awaited:
            return otherwise
        leading = [clock.watermark for clock in self._clocks.values() if not clock.follows and not clock.finished]
        return min(leading, default=otherwise)

    def _move(self, clock: PartitionClock, disorder: int) -> int:
        if clock.newest is not None:
            since = 0 if clock.caught_up is None else self._monotonic() - clock.caught_up
            clock.watermark = max(clock.watermark, clock.newest + since - disorder)
        return clock.watermark


def newest_event_time(frames: list[bytes], *, limit: int) -> int | None:
    """A lower bound of the newest event time in ``frames``, from the first event of some of them.

    Times beyond ``limit`` do not count: a device with a wrong clock must not move the others on. None when none could be read.
    """
    step = max(1, len(frames) // _SAMPLES)
    newest: int | None = None
    for frame in frames[::-1][::step]:
        try:
            _, found = first_times(frame)
        except FrameError:
            continue
        if found <= limit and (newest is None or found > newest):
            newest = found
    return newest
