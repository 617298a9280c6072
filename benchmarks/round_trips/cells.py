"""What is measured in a cell of the grid."""

from __future__ import annotations

from typing import Final

import msgspec

#: Of the rate that is wanted: what is less is not sustained.
ENOUGH: Final = 0.9


class Cell(msgspec.Struct, frozen=True):
    """``size`` bytes of content, ``rate`` messages per second of each of ``clients``."""

    size: int
    rate: int
    clients: int = 1

    @property
    def total_rate(self) -> int:
        return self.rate * self.clients


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Round trips of a cell; milliseconds, None when none came back. ``problem`` is empty where the rate was sustained."""

    cell: Cell
    sent: int = 0
    back: int = 0
    #: Messages per second that came back, of all clients.
    reached: float = 0.0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    problem: str = ""
    #: 2 for the second of two, of which this was the better one.
    tries: int = 1

    @property
    def tried(self) -> bool:
        return self.sent > 0
