"""Event-time windows: which there are, and which a time falls into.

Windows lie on a grid: they start at multiples of ``every`` since 1970, UTC, and last ``size``. A fixed window has
``every == size``. A *slice* is the widest piece that no window cuts; rows are aggregated once per slice, and windows are
made of slices. With a ``gap`` it is a *period* that lies on the grid, and the windows are the sessions within it (decision 008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.errors import ConfigurationError
from transforms.measures.contract import Measure

#: Windows one event may fall into.
MOST_OVERLAPS: Final = 1_000


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A kind of window. Durations in µs."""

    name: str
    size: int
    every: int
    #: How long after its end, by the watermark, a window still takes late events.
    allowed_lateness: int = 0
    #: What its rows hold beyond count, sum, mean, min and max.
    measures: tuple[Measure, ...] = ()
    #: Sessions, which end this long after an event that no other follows within it; 0 for windows on the grid.
    gap: int = 0

    def __post_init__(self) -> None:
        if self.size <= 0 or self.every <= 0 or self.allowed_lateness < 0:
            raise ConfigurationError(f"window {self.name!r}: size and every must be above zero, lateness not below it")
        if self.every > self.size:
            raise ConfigurationError(
                f"window {self.name!r}: starts every {self.every / 1e6:g} s, lasts {self.size / 1e6:g} s: that leaves events out",
                remedy="let it start at least as often as it lasts",
            )
        if self.overlaps > MOST_OVERLAPS:
            raise ConfigurationError(f"window {self.name!r}: an event would fall into {self.overlaps} windows")
        if self.gap < 0 or self.gap > self.size:
            raise ConfigurationError(
                f"window {self.name!r}: the gap of sessions must be above zero, and below the longest that one may be"
            )

    @property
    def step(self) -> int:
        """How often results of a series come, about."""
        return self.gap or self.every

    @property
    def slice(self) -> int:
        return math.gcd(self.size, self.every)

    @property
    def overlaps(self) -> int:
        """Most windows that one event falls into."""
        return -(-self.size // self.every)

    def starts(self, time: int) -> list[int]:
        """Starts of the windows that ``time`` (µs since 1970, UTC) falls into, latest first."""
        last = time // self.every * self.every
        return list(range(last, time - self.size, -self.every))


def longest(windows: Sequence[WindowSpec]) -> int:
    """Size of the longest window in µs, 0 without windows."""
    return max((window.size for window in windows), default=0)


def latest_close(windows: Sequence[WindowSpec], time: int) -> int | None:
    """The watermark from which an event at ``time`` comes too late for every window; None without windows."""
    return max((window.starts(time)[0] + window.size + window.allowed_lateness for window in windows), default=None)


def check_windows(windows: Sequence[WindowSpec]) -> None:
    """Raises `ConfigurationError` when rows of two kinds of window could not be told apart by start and end."""
    sizes: dict[int, str] = {}
    for window in windows:
        if window.gap:
            continue
        if window.size in sizes:
            raise ConfigurationError(
                f"the windows {sizes[window.size]!r} and {window.name!r} are both {window.size / 1e6:g} s long",
                remedy="give them different sizes: results are stored by their start and end",
            )
        sizes[window.size] = window.name
