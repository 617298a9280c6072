"""Sessions: equal to plain Python and to Beam's own, whatever comes late and in whichever order."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Any

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import GlobalWindows, Sessions, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from storage.spans import survivors
from storage.tables import SESSIONS
from tests.examples import examples
from tests.transforms.test_windowing import State, Statistics, Timer, admitted, at_least_one, check, columns
from transforms.admit import BEFORE_ALL
from transforms.aggregates import LATE, ON_TIME
from transforms.measures import measures_of
from transforms.partials import merge_of, partials_of, rows_of
from transforms.session_windowing import SessionAggregates, pack_arriving
from transforms.sessions import session_types
from transforms.windowing import AggregateInWindows
from transforms.windows import WindowSpec, check_windows

SECOND = 1_000_000
PERIOD = 100
MEASURES = measures_of(["first", "stddev", "p50"], accuracy=0.01, own={})
VISITS = WindowSpec("visits", PERIOD, PERIOD, 50, MEASURES, 16)
Event = tuple[int, str, str, float]

event = st.tuples(st.integers(0, 3 * PERIOD), st.sampled_from("ab"), st.just("c"), st.sampled_from([0.1, 1.0, -2.5]))


def plain(events: list[Event], window: WindowSpec = VISITS) -> dict[tuple[str, int, int], tuple[int, float, float]]:
    """Device, start and end: count, sum and first value. An event belongs to a session unless the gap lies before it."""
    found: dict[tuple[str, int, int], tuple[int, float, float]] = {}
    for device in {device for _, device, *_ in events}:
        run: list[Event] = []
        for one in [*sorted(one for one in events if one[1] == device), None]:
            cut = run and (one is None or one[0] - run[-1][0] >= window.gap or one[0] // window.size != run[-1][0] // window.size)
            if cut:
                end = min(run[-1][0] + window.gap, (run[0][0] // window.size + 1) * window.size)
                values = [value for *_, value in run]
                found[device, run[0][0], end] = (len(run), math.fsum(values), 0.0)
                run = []
            if one is not None:
                run.append(one)
    return found


def shown(rows: pl.DataFrame) -> dict[tuple[str, int, int], tuple[int, float, float]]:
    listed = rows.select("device", "window_start", "window_end", "count", "sum").rows()
    found = {tuple(key): (count, total, 0.0) for *key, count, total in listed}
    assert len(found) == len(listed)
    return found  # type: ignore[return-value]


@examples(40)
@given(st.lists(event, min_size=1, max_size=40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_sessions_equal_plain_python_in_any_order_and_grouping(events: list[Event], blocks: int, chance: Any) -> None:
    kept: dict[int, list[pl.DataFrame]] = defaultdict(list)
    shuffled = events[:]
    chance.shuffle(shuffled)
    for number in range(blocks):
        if shuffled[number::blocks]:
            for _, period, partial in partials_of(columns(shuffled[number::blocks]), (VISITS,)):
                kept[period].append(partial)
    tables = []
    for period, parts in kept.items():
        once = merge_of(VISITS, parts[: len(parts) // 2 + 1])
        merged = merge_of(VISITS, [*parts[len(parts) // 2 + 1 :], once])
        tables.append(rows_of(VISITS, period, merged, pane=ON_TIME, updated_at=1))
        assert dict(tables[-1].schema) == {name: tables[-1].schema[name] for name in session_types(VISITS)}
    assert shown(pl.concat(tables)) == plain(events)


class Period:
    """A key of `SessionAggregates`, driven by hand as a runner does; what it gives goes into a table as into a store."""

    def __init__(self, window: WindowSpec = VISITS) -> None:
        self.window = window
        self.key = f"{window.name}|0|0"
        self.step = SessionAggregates((window,), clock=lambda: 7)
        self.opened, self.given, self.head = State(), State(), Value()
        self.look, self.clear = Timer(), Timer()
        self.watermark = BEFORE_ALL
        self.table: pl.DataFrame | None = None
        self.panes: list[tuple[int, int, str]] = []

    def take(self, *times: int, device: str = "d", value: float = 1.0) -> None:
        found = columns([(time, device, "c", value) for time in times])
        (partial,) = [part for _, period, part in partials_of(found, (self.window,)) if period == 0]
        data = pack_arriving(partial, self.window, 0, self.watermark)
        self._store(self.step.process((self.key, data), self.opened, self.head, self.look, self.clear))
        # A timer in the past fires at once.
        self.advance(self.watermark)

    def advance(self, watermark: int) -> None:
        self.watermark = watermark
        while self.look.time is not None and self.look.time <= watermark:
            time, self.look.time = Timestamp(micros=self.look.time), None
            self._store(self.step.on_look(self.key, time, self.opened, self.given, self.head, self.look))
        if self.clear.time is not None and self.clear.time <= watermark:
            self.clear.time = None
            self._store(self.step.on_clear(self.key, self.opened, self.given, self.head))

    def _store(self, tables: Any) -> None:
        for rows in tables:
            self.panes += rows.select("window_start", "window_end", "pane").rows()
            self.table = survivors(rows if self.table is None else pl.concat([self.table, rows]), SESSIONS)


class Value:
    def __init__(self) -> None:
        self.value: bytes | None = None

    def read(self) -> bytes | None:
        return self.value

    def write(self, value: bytes) -> None:
        self.value = value

    def clear(self) -> None:
        self.value = None


def test_a_session_is_given_out_when_it_has_ended() -> None:
    period = Period()
    period.take(1, 5)
    period.advance(20)
    assert period.panes == []
    period.take(20)
    period.advance(35)
    assert period.panes == []
    period.advance(36)
    assert period.panes == [(1, 36, ON_TIME)]
    period.take(40)
    period.advance(60)
    assert period.panes == [(1, 36, ON_TIME), (40, 56, ON_TIME)]


def test_a_late_event_between_two_sessions_makes_them_one() -> None:
    period = Period()
    period.take(0)
    period.take(20)
    period.advance(40)
    assert period.panes == [(0, 16, ON_TIME), (20, 36, ON_TIME)]
    period.take(10)
    assert period.panes[2:] == [(0, 36, LATE)]
    assert period.table is not None
    assert shown(period.table) == plain([(time, "d", "c", 1.0) for time in (0, 10, 20)])


def test_a_late_event_that_opens_a_session_again_waits_for_its_new_end() -> None:
    period = Period()
    period.take(0)
    period.advance(20)
    period.take(15)
    assert period.panes == [(0, 16, ON_TIME)]
    period.advance(31)
    assert period.panes == [(0, 16, ON_TIME), (0, 31, LATE)]


def test_a_session_of_late_events_alone_is_given_out_at_once() -> None:
    period = Period()
    period.advance(60)
    period.take(3)
    assert period.panes == [(3, 19, LATE)]


def test_a_session_ends_with_its_period_and_is_forgotten_after_the_lateness() -> None:
    period = Period()
    period.take(95)
    period.advance(99)
    assert period.panes == []
    period.advance(100)
    assert period.panes == [(95, 100, ON_TIME)]
    period.take(90)
    assert period.panes[1:] == [(90, 100, LATE)]
    period.advance(150)
    assert period.given.bag == period.opened.bag == []
    assert period.head.value is None


def test_a_runner_that_forgets_first_loses_nothing() -> None:
    period = Period(WindowSpec("visits", PERIOD, PERIOD, 0, (), 16))
    period.take(95)
    assert period.clear.time == 100
    period._store(period.step.on_clear(period.key, period.opened, period.given, period.head))
    assert period.panes == [(95, 100, ON_TIME)]
    period.advance(200)
    assert len(period.panes) == 1


@pytest.mark.slow
@examples(60)
@given(st.lists(st.tuples(st.integers(0, PERIOD - 1), st.sampled_from("ab"), st.integers(0, 12)), min_size=1, max_size=50))
def test_what_stands_in_a_store_is_exact_after_any_lateness(steps: list[tuple[int, str, int]]) -> None:
    """Events at any time, while the watermark goes its own way."""
    period = Period()
    watermark = -10
    events: list[Event] = []
    for time, device, step in steps:
        watermark += step
        period.advance(min(watermark, PERIOD + VISITS.allowed_lateness - 1))
        period.take(time, device=device)
        events.append((time, device, "c", 1.0))
    period.advance(PERIOD + VISITS.allowed_lateness)
    assert period.table is not None
    assert shown(period.table) == plain(events)


@pytest.mark.slow
def test_many_partials_are_kept_as_few() -> None:
    period = Period()
    for place in range(100):
        period.take(place)
    assert len(period.opened.bag) <= 33


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_bounded_input_gives_the_sessions_of_beam(shards: int) -> None:
    """Beam's know no periods: keyed by period too, they are cut where ours are. Its windows are kept to the millisecond."""
    chance = random.Random(5)
    longest, gap = 60 * SECOND, 4 * SECOND
    found = [
        (chance.randrange(0, 240_000) * 1_000, f"device-{chance.randrange(3)}", chance.choice("tu"), chance.gauss(20, 5))
        for _ in range(300)
    ]
    blocks = [admitted(found[start : start + 30]) for start in range(0, len(found), 30)]
    windows = (WindowSpec("visits", longest, longest, SECOND, (), gap), WindowSpec("fixed", 10 * SECOND, 10 * SECOND))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        theirs = (
            pipeline
            | beam.Create(found)
            | beam.Map(lambda one: TimestampedValue(((one[0] // longest, one[1], one[2]), one[3]), Timestamp(micros=one[0])))
            | beam.WindowInto(Sessions(gap / SECOND))
            | beam.CombinePerKey(Statistics())
            | beam.ParDo(Cut(longest))
            | "Global" >> beam.WindowInto(GlobalWindows())
        )
        ours = pipeline | "Blocks" >> beam.Create(blocks, reshuffle=False) | AggregateInWindows(windows, shards=shards)
        both = {"theirs": theirs, "ours": ours["sessions"] | beam.ParDo(Keep())} | beam.CoGroupByKey()
        both | beam.Map(check) | beam.combiners.Count.Globally() | beam.Map(at_least_one)


class Cut(beam.DoFn):
    def __init__(self, longest: int) -> None:
        self._longest = longest

    def process(self, element: Any, window: Any = beam.DoFn.WindowParam) -> Any:
        (period, device, channel), values = element
        yield (device, channel, window.start.micros, min(window.end.micros, (period + 1) * self._longest)), values


class Keep(beam.DoFn):
    def process(self, table: pl.DataFrame) -> Any:
        names = ("device", "channel", "window_start", "window_end", "count", "sum", "mean", "min", "max")
        for row in table.select(names).iter_rows():
            yield row[:4], row[4:]


def test_gaps_and_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="gap of sessions"):
        WindowSpec("visits", 10, 10, gap=11)
    day = WindowSpec("day", 100, 100)
    check_windows((day, WindowSpec("visits", 100, 100, gap=5)))
