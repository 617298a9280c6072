"""The two clocks: one that tells how long, one that tells when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _wall() -> int:
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Clock:
    """``monotonic`` gives seconds and never steps; ``wall`` gives µs since 1970, UTC."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], int] = _wall
