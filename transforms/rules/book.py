"""The states of a rule's series, and how rows are taken into them. Plain Python, no Beam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from transforms.rules.fired import Fired, fired
from transforms.rules.machine import CLEARED, RAISED, Position, SeriesState, judge
from transforms.rules.match import CLEARS, RAISES, TIME, shard_of
from transforms.rules.memory import Series
from transforms.rules.spec import Rule

BEFORE_ALL: Final = -(2**62)
_OWN_COLUMNS: Final = (RAISES, CLEARS, TIME)


class _Packed(msgspec.Struct, array_like=True):
    judged: int
    series: dict[Series, SeriesState]


@dataclass(slots=True)
class Outcome:
    """What came of some rows: what fired, and the states that must be remembered."""

    fired: list[Fired] = field(default_factory=list)
    remember: dict[Series, bytes] = field(default_factory=dict)


class Book:
    """States of one shard of a rule's series."""

    def __init__(self, series: dict[Series, SeriesState] | None = None, judged: int = BEFORE_ALL) -> None:
        self.series = series or {}
        #: In an ordered rule: rows up to this time have been judged, µs since 1970, UTC.
        self.judged = judged

    @classmethod
    def unpack(cls, data: bytes) -> Book:
        packed = msgspec.msgpack.decode(data, type=_Packed)
        return cls(packed.series, packed.judged)

    def pack(self) -> bytes:
        return msgspec.msgpack.encode(_Packed(self.judged, self.series))

    @classmethod
    def remembered(cls, states: Mapping[Series, bytes], shard: int, shards: int) -> Book:
        """A book as a job that begins anew finds it."""
        mine = {series: data for series, data in states.items() if shard_of(series[0], shards) == shard}
        return cls({series: msgspec.msgpack.decode(data, type=SeriesState) for series, data in mine.items()})

    def judge(self, rule: Rule, rows: Iterable[Mapping[str, Any]], *, now: int) -> Outcome:
        """Take rows (`transforms.rules.match.judged`) in, in their order; one that comes after a later one counts no more."""
        out = Outcome()
        for row in rows:
            series, at = (row["device"], row["channel"]), _position(rule, row)
            if rule.each and rule.limit is None:
                out.fired.append(fired(rule, RAISED, _shown(row), _cause(rule, row), time=at.time, now=now))
                continue
            state = self.series.get(series)
            if state is not None and not at.follows(state.at, ordered=rule.is_ordered):
                continue
            if state is None:
                state = self.series[series] = SeriesState(at)
            change, remember = judge(
                state, at, raises=row[RAISES], clears=row[CLEARS], hold=rule.hold, limit=rule.limit, each=rule.each
            )
            if change is not None:
                out.fired.append(fired(rule, change, _shown(row), _cause(rule, row), time=at.time, now=now))
            if remember:
                out.remember[series] = msgspec.msgpack.encode(state)
        return out

    def forget_idle(self) -> None:
        """Drop series that are as if never seen, in an ordered rule, where `judged` says what has been."""
        self.series = {series: state for series, state in self.series.items() if not state.is_idle or state.at.time > self.judged}

    def seen(self, rule: Rule, spans: Iterable[tuple[str, str, int, int]], *, now: int) -> Outcome:
        """In a rule on absence: device, channel, first and last time of rows that have come.

        What is remembered of a series is never further than `slack` behind its newest row.
        """
        out = Outcome()
        moved: list[Series] = []
        for device, channel, first, last in spans:
            series = (device, channel)
            state = self.series.get(series)
            if state is None:
                state = self.series[series] = SeriesState(Position(last))
                _remember(series, state, out)
                continue
            silent_since = state.at.time
            if last <= silent_since:
                continue
            state.at = Position(last)
            if state.active:
                state.active = False
                time = first if first > silent_since else last
                out.fired.append(_absence(rule, CLEARED, series, silent_since, time=time, now=now))
                _remember(series, state, out)
            elif last - state.remembered >= slack(rule):
                _remember(series, state, out)
            else:
                moved.append(series)
        if out.remember:
            # As there is a write, those go with it that would soon want one of their own.
            for series in moved:
                state = self.series[series]
                if state.at.time - state.remembered >= slack(rule) // 2:
                    _remember(series, state, out)
        return out

    def absent(self, rule: Rule, time: int, *, now: int) -> Outcome:
        """In a rule on absence: everything up to the event time ``time`` has come."""
        out = Outcome()
        for series, state in self.series.items():
            if not state.active and state.at.time + rule.absent <= time:
                state.active = True
                due = state.at.time + rule.absent
                out.fired.append(_absence(rule, RAISED, series, state.at.time, time=due, now=now))
                _remember(series, state, out)
        return out

    def next_absence(self, rule: Rule) -> int | None:
        """Event time at which `absent` may have something to say."""
        return min((state.at.time + rule.absent for state in self.series.values() if not state.active), default=None)

    def expect_unremembered(self, rule: Rule) -> None:
        """In a rule on absence, after `remembered`: take each series to be as new as it may have been: none is told early."""
        for state in self.series.values():
            if not state.active:
                state.at = Position(state.at.time + slack(rule))


def slack(rule: Rule) -> int:
    """µs of silence that a restart may not know of: a quarter of what is allowed, so that not every row is a write."""
    return rule.absent // 4


def _remember(series: Series, state: SeriesState, out: Outcome) -> None:
    state.remembered = state.at.time
    out.remember[series] = msgspec.msgpack.encode(state)


def _position(rule: Rule, row: Mapping[str, Any]) -> Position:
    if rule.window is not None:
        return Position(row[TIME])
    return Position(row[TIME], row["epoch"], row["seq"], row["gateway"], row["gateway_time"])


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _OWN_COLUMNS}


def _cause(rule: Rule, row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("window_start", "window_end") if rule.window is not None else ("gateway", "epoch", "seq")
    return {name: row[name] for name in names}


def _absence(rule: Rule, change: Any, series: Series, since: int, *, time: int, now: int) -> Fired:
    row = {"device": series[0], "channel": series[1], "silent_since": since}
    return fired(rule, change, row, {"silent_since": since}, time=time, now=now)
