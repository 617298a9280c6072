"""How old records are, on a machine whose clock may be set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from telemetry.logs import logger

#: µs by which the wall clock may get away from the time that has passed without having been set.
STEP: Final = 60_000_000
_WHILE_SUSPENDED_TOO: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_clock() -> float:
    """Seconds since the machine was started."""
    return time.clock_gettime(_WHILE_SUSPENDED_TOO)


class Ages:
    """Whether ages may be told from append times, which are of the wall clock.

    A machine without a battery begins days behind, and everything it has written looks days old once its clock is set.
    After such a step nothing is known to be too old until ``hold`` seconds have passed. Any thread may use it.
    """

    def __init__(self, clock: Callable[[], int], elapsed: Callable[[], float], *, hold: float, url: str) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._hold = hold
        self._lock = threading.Lock()
        self._last: tuple[int, float] | None = None
        self._trusted_from = 0.0
        self._log = logger("local", broker=url)

    def look(self) -> tuple[int, bool]:
        """The time, in µs since 1970, UTC, and whether ages may be told by it."""
        with self._lock:
            now, passed = self._clock(), self._elapsed()
            if self._last is not None:
                step = now - self._last[0] - round(1e6 * (passed - self._last[1]))
                if abs(step) > STEP:
                    self._trusted_from = passed + self._hold
                    self._log.warning("the clock was set", by_seconds=step // 1_000_000, nothing_expires_for_seconds=self._hold)
            self._last = (now, passed)
            return now, passed >= self._trusted_from
