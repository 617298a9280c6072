"""The wall clock, watched against the monotonic one: whether it was set, and whether something keeps it right."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Seconds between the two clocks that are no drift: nothing slews faster than 500 ppm.
_STEP: Final = 0.1
_TIME_ERROR: Final = 5


@dataclass(frozen=True, slots=True)
class ClockState:
    """``synchronised`` is None where the kernel does not say. Steps in seconds, forward positive."""

    synchronised: bool | None
    steps: int
    last_step: float


class ClockWatch:
    """Call `look` regularly; the clocks give nanoseconds."""

    def __init__(
        self,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        synchronised: Callable[[], bool | None] | None = None,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._synchronised = synchronised or kernel_says_synchronised
        self._before = wall() - monotonic()
        self._steps = 0
        self._last_step = 0.0

    def look(self) -> float:
        """Seconds by which the wall clock was set since the last look; 0 when it was not."""
        offset = self._wall() - self._monotonic()
        step = (offset - self._before) / 1e9
        self._before = offset
        if abs(step) < _STEP:
            return 0.0
        self._steps += 1
        self._last_step = step
        return step

    def state(self) -> ClockState:
        return ClockState(self._synchronised(), self._steps, self._last_step)


class _Timex(ctypes.Structure):
    """The beginning of Linux's struct timex (adjtimex(2)), and room for its rest."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_long * 64))


def kernel_says_synchronised() -> bool | None:
    """What adjtimex(2) says: a clock that a time service keeps has no TIME_ERROR."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
