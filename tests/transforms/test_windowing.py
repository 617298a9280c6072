"""Windows as Beam transforms: equal to Beam's own WindowInto and CombinePerKey, and to the rule for late events."""

from __future__ import annotations

import math
import random
from typing import Any

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from transforms.admit import BEFORE_ALL, Admitted
from transforms.aggregates import LATE, ON_TIME, pack
from transforms.partials import partials_of
from transforms.windowing import AggregateInWindows, AssignWindows, Correction, Resumption, WindowAggregates
from transforms.windows import WindowSpec

SECOND = 1_000_000
WINDOWS = (WindowSpec("fixed", 10 * SECOND, 10 * SECOND, SECOND), WindowSpec("sliding", 30 * SECOND, 10 * SECOND, SECOND))


def events(number: int, *, seed: int = 1) -> list[tuple[int, str, str, float]]:
    chance = random.Random(seed)
    return [
        (
            chance.randrange(0, 120 * SECOND),
            f"device-{chance.randrange(3)}",
            chance.choice(["temperature", "humidity"]),
            chance.gauss(20, 5),
        )
        for _ in range(number)
    ]


def columns(found: list[tuple[int, str, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "gateway": ["g"] * len(found),
            "epoch": [1] * len(found),
            "seq": list(range(len(found))),
            "gateway_time": [0] * len(found),
            "device": [device for _, device, _, _ in found],
            "channel": [channel for _, _, channel, _ in found],
            "event_time": [time for time, *_ in found],
            "value": [value for *_, value in found],
        }
    )


def admitted(found: list[tuple[int, str, str, float]], *, watermark: int = BEFORE_ALL, next_offset: int = 1) -> Admitted:
    return Admitted(columns(found), "topic", 0, next_offset, watermark)


class Keep(beam.DoFn):
    """Rows as tuples that `beam.testing` can compare."""

    def process(self, table: pl.DataFrame) -> Any:
        for row in table.to_dicts():
            size = (row["window_end"] - row["window_start"]) // SECOND
            values = (row["count"], row["sum"], row["mean"], row["min"], row["max"])
            yield (size, row["window_start"], row["device"], row["channel"]), values


class Statistics(beam.CombineFn):
    def create_accumulator(self) -> list[float]:
        return []

    def add_input(self, accumulator: list[float], value: float) -> list[float]:
        return [*accumulator, value]

    def merge_accumulators(self, accumulators: Any) -> list[float]:
        return [value for accumulator in accumulators for value in accumulator]

    def extract_output(self, values: list[float]) -> tuple[int, float, float, float, float]:
        total = math.fsum(values)
        return len(values), total, total / len(values), min(values), max(values)


class WithWindow(beam.DoFn):
    def process(self, element: Any, window: Any = beam.DoFn.WindowParam) -> Any:
        (device, channel), values = element
        size = (window.end.micros - window.start.micros) // SECOND
        yield (size, window.start.micros, device, channel), values


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_bounded_input_gives_the_rows_of_beams_own_windows(shards: int) -> None:
    found = events(600)
    blocks = [admitted(found[start : start + 50]) for start in range(0, len(found), 50)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        timed = (
            pipeline
            | beam.Create(found)
            | beam.Map(lambda event: TimestampedValue(((event[1], event[2]), event[3]), Timestamp(micros=event[0])))
        )
        theirs = [
            timed
            | f"Into{size}" >> beam.WindowInto(windows)
            | f"Combine{size}" >> beam.CombinePerKey(Statistics())
            | f"Window{size}" >> beam.ParDo(WithWindow())
            | f"Global{size}" >> beam.WindowInto(beam.window.GlobalWindows())
            for size, windows in ((10, FixedWindows(10)), (30, SlidingWindows(30, 10)))
        ]
        ours = pipeline | "Blocks" >> beam.Create(blocks, reshuffle=False) | AggregateInWindows(WINDOWS, shards=shards)
        both = {"theirs": tuple(theirs) | beam.Flatten(), "ours": ours["rows"] | beam.ParDo(Keep())} | beam.CoGroupByKey()
        counted = both | beam.Map(check) | beam.combiners.Count.Globally()
        counted | beam.Map(at_least_one)


def check(element: Any) -> int:
    key, groups = element
    theirs, ours = list(groups["theirs"]), list(groups["ours"])
    assert len(theirs) == 1, (key, theirs, ours)
    assert ours == theirs, (key, theirs, ours)
    return 1


def at_least_one(number: int) -> None:
    assert number > 100


class State:
    """The bag of one key, as a runner keeps it."""

    def __init__(self) -> None:
        self.bag: list[bytes] = []

    def add(self, value: bytes) -> None:
        self.bag.append(value)

    def read(self) -> Any:
        return iter(self.bag)

    def clear(self) -> None:
        self.bag = []


class Timer:
    def __init__(self) -> None:
        self.time: int | None = None

    def set(self, time: Timestamp) -> None:
        self.time = time.micros


class Window:
    """One key of `WindowAggregates`, driven by hand."""

    def __init__(self, window: WindowSpec) -> None:
        self.window = window
        self.key = f"{window.name}|0|0"
        self.step = WindowAggregates((window,), clock=lambda: 7)
        self.stored, self.end, self.clear = State(), Timer(), Timer()

    def take(self, values: list[float], *, watermark: int) -> list[dict[str, Any]]:
        partial = next(
            part for _, start, part in partials_of(columns([(1, "d", "c", v) for v in values]), (self.window,)) if start == 0
        )
        time = Timestamp(micros=watermark)
        return rows(self.step.process((self.key, pack(partial)), time, self.stored, self.end, self.clear))

    def fire(self) -> list[dict[str, Any]]:
        assert self.end.time is not None
        time, self.end.time = Timestamp(micros=self.end.time), None
        return rows(self.step.on_end(self.key, time, self.stored))

    def forget(self) -> list[dict[str, Any]]:
        return rows(self.step.on_clear(self.key, self.stored))


def rows(tables: Any) -> list[dict[str, Any]]:
    return [row for table in tables for row in table.to_dicts()]


def seen(found: list[dict[str, Any]]) -> list[tuple[int, float, str]]:
    return [(row["count"], row["sum"], row["pane"]) for row in found]


SPEC = WindowSpec("w", 10 * SECOND, 10 * SECOND, 60 * SECOND)


def test_a_late_event_gives_the_whole_corrected_row_again() -> None:
    window = Window(SPEC)
    assert window.take([1.0, 2.0], watermark=BEFORE_ALL) == []
    assert window.take([3.0], watermark=9 * SECOND) == []
    assert window.end.time == 10 * SECOND
    assert window.clear.time == 70 * SECOND
    assert seen(window.fire()) == [(3, 6.0, ON_TIME)]
    assert seen(window.take([4.0], watermark=20 * SECOND)) == [(4, 10.0, LATE)]
    assert seen(window.take([5.0], watermark=21 * SECOND)) == [(5, 15.0, LATE)]
    assert window.forget() == []
    assert window.stored.bag == []


def test_a_late_event_before_its_window_has_closed_waits_for_it() -> None:
    """Another partition is behind: the window has not closed though this event's own partition is past it."""
    window = Window(SPEC)
    window.take([1.0], watermark=BEFORE_ALL)
    assert window.take([2.0], watermark=15 * SECOND) == []
    assert seen(window.fire()) == [(2, 3.0, ON_TIME)]


def test_a_window_whose_first_event_is_late_holds_the_watermark_where_the_event_is() -> None:
    window = Window(SPEC)
    assert window.take([1.0], watermark=15 * SECOND) == []
    assert window.end.time == 15 * SECOND
    assert seen(window.fire()) == [(1, 1.0, LATE)]


def test_a_runner_that_clears_first_loses_nothing() -> None:
    window = Window(SPEC)
    window.take([1.0], watermark=BEFORE_ALL)
    assert seen(window.forget()) == [(1, 1.0, ON_TIME)]
    assert window.fire() == []


@pytest.mark.parametrize("clear_first", [False, True])
def test_a_window_that_takes_no_late_events_is_given_out_once_whichever_timer_fires_first(*, clear_first: bool) -> None:
    """Both are set: Beam's runner in memory may overlook a timer family that is used alone."""
    window = Window(WindowSpec("w", 10 * SECOND, 10 * SECOND))
    window.take([1.0], watermark=BEFORE_ALL)
    assert window.end.time == window.clear.time == 10 * SECOND
    first, second = (window.forget, window.fire) if clear_first else (window.fire, window.forget)
    assert seen(first()) == [(1, 1.0, ON_TIME)]
    assert second() == []
    assert window.stored.bag == []


def test_many_partials_are_kept_as_few() -> None:
    window = Window(SPEC)
    for _ in range(200):
        window.take([0.1], watermark=BEFORE_ALL)
    assert len(window.stored.bag) < 40
    assert seen(window.fire()) == [(200, math.fsum([0.1] * 200), ON_TIME)]


def assigned(element: Admitted, resumption: Resumption) -> tuple[set[str], set[Correction]]:
    keys: set[str] = set()
    corrections: set[Correction] = set()
    for output in AssignWindows(WINDOWS, resumption=resumption).process(element):
        if isinstance(output, beam.pvalue.TaggedOutput):
            corrections.add(output.value)
        else:
            keys.add(output[0])
    return keys, corrections


def test_windows_below_the_floor_are_listed_and_not_touched() -> None:
    resumption = Resumption(floor=20 * SECOND)
    keys, corrections = assigned(admitted([(25 * SECOND, "d", "c", 1.0)]), resumption)
    assert keys == {f"fixed|{20 * SECOND}|0", f"sliding|{20 * SECOND}|0"}
    assert corrections == {Correction("sliding", 0), Correction("sliding", 10 * SECOND)}


def test_what_had_gone_through_before_is_not_listed_again() -> None:
    resumption = Resumption(floor=20 * SECOND, done={("topic", 0): 5})
    assert assigned(admitted([(5 * SECOND, "d", "c", 1.0)], next_offset=5), resumption) == (set(), set())
    assert assigned(admitted([(5 * SECOND, "d", "c", 1.0)], next_offset=6), resumption)[1] != set()


def test_an_event_counts_only_in_its_windows_that_still_take_events() -> None:
    keys, corrections = assigned(admitted([(5 * SECOND, "d", "c", 1.0)], watermark=12 * SECOND), Resumption())
    assert keys == {f"sliding|{start * SECOND}|0" for start in (0, -10)}
    assert corrections == set()


@given(
    times=st.lists(st.integers(-20, 45).map(lambda tenth: tenth * SECOND), min_size=1, max_size=20),
    watermark=st.integers(0, 60).map(lambda second: second * SECOND),
)
def test_what_a_window_has_missed_is_counted_as_events(times: list[int], watermark: int) -> None:
    told: dict[str, int] = {}
    element = admitted([(time, "d", "c", 1.0) for time in times], watermark=watermark)
    list(AssignWindows(WINDOWS, missed=told.__setitem__).process(element))
    for window in WINDOWS:
        closed = [
            any(start + window.size + window.allowed_lateness <= watermark for start in window.starts(time)) for time in times
        ]
        assert told.get(window.name, 0) == sum(closed)


def test_what_was_counted_before_a_restart_is_not_counted_again() -> None:
    element = admitted([(5 * SECOND, "d", "c", 1.0)], watermark=12 * SECOND, next_offset=5)
    for done, expected in ((4, {"fixed": 1, "sliding": 1}), (5, {})):
        told: dict[str, int] = {}
        list(AssignWindows(WINDOWS, resumption=Resumption(done={("topic", 0): done}), missed=told.__setitem__).process(element))
        assert told == expected
