"""What a rule makes of one series, row after row. Plain Python: no columns, no Beam.

A series is a device and channel. Rows come in order. A row *raises* when the condition holds in it and *clears* when the
condition to end does. Inactive, a series becomes active with the first row that raises, when it has raised without a break for
``hold`` and the limit allows it; else it stays as it is, and the next row is looked at afresh. Active, it becomes inactive with
the first row that clears. One row never does both.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from transforms.rules.spec import Limit

Change = Literal["raised", "cleared"]
RAISED: Final = "raised"
CLEARED: Final = "cleared"


class Position(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where a row stands among others. ``time`` is µs since 1970, UTC: of the event, or the window's end."""

    time: int
    epoch: int = 0
    seq: int = 0
    gateway: str = ""
    #: When the gateway accepted the event, µs since 1970, UTC.
    gateway_time: int = 0

    def follows(self, other: Position, *, ordered: bool) -> bool:
        """Whether it comes after ``other``: by its time, or, as the gateway has numbered them."""
        if ordered:
            return (self.time, self.epoch, self.seq) > (other.time, other.epoch, other.seq)
        if self.gateway == other.gateway:
            return (self.epoch, self.seq) > (other.epoch, other.seq)
        return self.gateway_time > other.gateway_time


class SeriesState(msgspec.Struct, array_like=True):
    """What is kept of a series between rows."""

    #: The last row judged.
    at: Position
    active: bool = False
    #: Since when it has raised without a break, while it is not yet active; µs since 1970, UTC.
    since: int | None = None
    #: When it was raised, newest last, as far as the limit looks back.
    raises: list[int] = []
    #: In a rule on absence: the newest row that is remembered beyond the job's life, µs since 1970, UTC.
    remembered: int = -(2**62)

    @property
    def is_idle(self) -> bool:
        return not self.active and self.since is None and not self.raises


def judge(
    state: SeriesState, at: Position, *, raises: bool, clears: bool, hold: int, limit: Limit | None, each: bool
) -> tuple[Change | None, bool]:
    """Take the next row into ``state``. Returns what has changed for the outside, and whether the state must be remembered."""
    state.at = at
    if state.active:
        if not clears:
            return None, False
        state.active = False
        return CLEARED, True
    if not raises:
        pending, state.since = state.since, None
        return None, pending is not None
    began = state.since is None and hold > 0
    if began:
        state.since = at.time
    if hold and state.since is not None and at.time - state.since < hold:
        return None, began
    if limit is not None:
        state.raises = [time for time in state.raises if time > at.time - limit.per]
        if len(state.raises) >= limit.count:
            return None, began
        state.raises.append(at.time)
    state.since = None
    state.active = not each
    return RAISED, True
