"""Pauses between attempts: growing, jittered, bounded."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Seconds to wait before the next attempt: between half and all of ``first × 2ⁿ``, at most ``longest``.

    The jitter keeps a fleet that lost its broker from coming back to it all at once. ``uniform`` is
    `random.uniform`, or what a test puts in its place.
    """

    def __init__(
        self, first: float = 0.1, longest: float = 30.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first = first
        self._longest = longest
        self._uniform = uniform
        self._attempts = 0

    def next(self) -> float:
        whole = min(self._longest, self._first * 2.0 ** min(self._attempts, 60))
        self._attempts += 1
        return self._uniform(whole / 2, whole)

    def reset(self) -> None:
        """After a success."""
        self._attempts = 0
