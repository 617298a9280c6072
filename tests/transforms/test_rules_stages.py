"""Rules as Beam runs them: order behind the watermark, corrections that fire nothing, silence, memory across lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as RunPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from schemas.registry import shipped
from transforms.admit import Admitted
from transforms.aggregates import ROW_TYPES
from transforms.rules import EventRules, Fired, Rule, WindowRules, load_rules
from transforms.rules.memory import Series
from transforms.windows import WindowSpec

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_273_363_200 * SECOND
WINDOW = WindowSpec("minute", MINUTE, MINUTE)
Seen = tuple[str, str, str, int]


def rules(**texts: Any) -> tuple[Rule, ...]:
    given = {name: {"alert": True, **fields} for name, fields in texts.items()}
    return load_rules(
        given, origin="test", windows=[WINDOW, WindowSpec("hour", 60 * MINUTE, 60 * MINUTE)], schemas=[shipped("Reading")]
    )


def windows(*found: tuple[int, str, float], pane: str = "on_time", size: int = MINUTE) -> pl.DataFrame:
    """Rows of windows, by the minute they start in, device and mean."""
    return pl.DataFrame(
        [
            {"window_start": START + minute * MINUTE, "window_end": START + minute * MINUTE + size, "device": device,
             "channel": "c", "count": 1, "sum": mean, "mean": mean, "min": mean, "max": mean, "pane": pane, "updated_at": 0}
            for minute, device, mean in found
        ],
        schema=ROW_TYPES,
    )  # fmt: skip


def events(*found: tuple[int, str, float], watermark: int = START) -> Admitted:
    """Readings by second, device and value; ``seq`` goes with the second."""
    rows = [
        {"gateway": "g", "epoch": 1, "seq": second, "gateway_time": START + second * SECOND, "device": device, "channel": "c",
         "event_time": START + second * SECOND, "value": value}
        for second, device, value in found
    ]  # fmt: skip
    return Admitted(pl.DataFrame(rows), "t", 0, 1, watermark)


def seen(fired: Fired) -> Seen:
    return fired.rule, fired.device, fired.change, (fired.time - START) // SECOND


def check(transform: beam.PTransform, elements: Sequence[tuple[int, Any]], expected: Sequence[Seen]) -> None:
    """Run ``transform`` over elements with their timestamps (seconds from `START`)."""
    timed = [TimestampedValue(element, Timestamp(micros=START + second * SECOND)) for second, element in elements]
    with RunPipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | beam.Create(timed) | beam.Map(_itself) | transform | "Seen" >> beam.Map(seen)
        assert_that(found, equal_to(list(expected)))


def _itself(value: Any) -> Any:
    return value.value if isinstance(value, TimestampedValue) else value


WINDOW_RULE: dict[str, Any] = {"on": "windows", "window": "minute", "when": "mean > 70", "until": "mean < 65"}


def test_windows_are_judged_in_the_order_of_their_time_however_they_come() -> None:
    frames = [windows((minute, "a", mean)) for minute, mean in ((3, 60.0), (1, 71.0), (0, 10.0), (2, 66.0), (4, 90.0))]
    check(
        WindowRules(rules(r=WINDOW_RULE)),
        [(0, frame) for frame in frames],
        [("r", "a", "raised", 120), ("r", "a", "cleared", 240), ("r", "a", "raised", 300)],
    )


def test_corrections_and_other_windows_fire_nothing() -> None:
    check(
        WindowRules(rules(r=WINDOW_RULE)),
        [(0, windows((0, "a", 90.0), pane="late")), (0, windows((0, "a", 90.0), size=60 * MINUTE)), (0, windows((0, "a", 9.0)))],
        [],
    )


def test_devices_and_channels_are_chosen_by_pattern() -> None:
    found = windows((0, "mote-1", 90.0), (0, "mote-12", 90.0), (0, "other", 90.0))
    check(WindowRules(rules(r={**WINDOW_RULE, "device": "mote-?"}), shards=3), [(0, found)], [("r", "mote-1", "raised", 60)])
    check(WindowRules(rules(r={**WINDOW_RULE, "channel": "d*"})), [(0, found)], [])


def test_events_are_judged_as_they_come() -> None:
    of = rules(r={"on": "events", "when": "value > 5"}, w=WINDOW_RULE)
    found = events((0, "a", 1.0), (1, "a", 9.0), (2, "b", 9.0), (3, "a", 9.0), (4, "a", 2.0))
    check(EventRules(of), [(0, found)], [("r", "a", "raised", 1), ("r", "b", "raised", 2), ("r", "a", "cleared", 4)])


def test_events_of_a_rule_with_for_are_judged_in_the_order_of_their_time() -> None:
    of = rules(r={"on": "events", "when": "value > 5", "for": "10s"})
    blocks = [events((20, "a", 9.0), (25, "a", 1.0)), events((5, "a", 9.0), (9, "a", 9.0)), events((12, "a", 9.0))]
    check(EventRules(of), [(0, block) for block in blocks], [("r", "a", "raised", 20), ("r", "a", "cleared", 25)])


def test_a_series_that_falls_silent_is_told() -> None:
    of = rules(r={"on": "events", "absent": "30s"})
    check(
        EventRules(of),
        [(0, events((0, "a", 1.0), (5, "b", 1.0), (20, "a", 1.0)))],
        [("r", "b", "raised", 35), ("r", "a", "raised", 50)],
    )


def test_a_condition_that_does_not_fit_a_schema_passes_its_events_over() -> None:
    of = rules(r={"on": "events", "when": "value > 5"})
    text = events((0, "a", 9.0))
    text = text._replace(columns=text.columns.with_columns(pl.lit("nine").alias("value")))
    check(EventRules(of), [(0, text), (0, events((1, "b", 9.0)))], [("r", "b", "raised", 1)])


class Kept:
    """A memory in this process."""

    def __init__(self) -> None:
        self.states: dict[str, dict[Series, bytes]] = {}
        self.fired: dict[str, Fired] = {}
        self._lock = threading.Lock()

    def load(self, rule: str) -> Mapping[Series, bytes]:
        with self._lock:
            return dict(self.states.get(rule, {}))

    def commit(self, rule: str, states: Mapping[Series, bytes], fired: Sequence[Fired]) -> None:
        with self._lock:
            self.states.setdefault(rule, {}).update(states)
            self.fired |= {found.id: found for found in fired}


@lru_cache(maxsize=8)
def kept(_name: str) -> Kept:
    return Kept()


@pytest.mark.parametrize(
    ("of", "first", "again", "expected"),
    [
        (
            WINDOW_RULE,
            [windows((0, "a", 90.0)), windows((1, "a", 80.0))],
            # Read again, the window holds what had come late, and would not have raised: it had been acted on, and stays so.
            [windows((0, "a", 60.0)), windows((1, "a", 80.0)), windows((2, "a", 10.0))],
            [("r", "a", "cleared", 180)],
        ),
        (
            {"on": "events", "when": "value > 5"},
            [events((0, "a", 9.0), (1, "a", 9.0))],
            [events((0, "a", 9.0), (1, "a", 9.0), (2, "a", 1.0))],
            [("r", "a", "cleared", 2)],
        ),
        (
            {"on": "events", "when": "value > 5", "for": "10s"},
            [events((0, "a", 9.0), (4, "a", 9.0))],
            [events((4, "a", 9.0), (11, "a", 9.0))],
            [("r", "a", "raised", 11)],
        ),
    ],
    ids=["windows", "events", "for"],
)
def test_a_new_life_goes_on_from_what_was_remembered(
    of: dict[str, Any], first: list[Any], again: list[Any], expected: list[Seen], request: pytest.FixtureRequest
) -> None:
    open_memory: Callable[[], Kept] = partial(kept, request.node.name)
    transform = WindowRules if of["on"] == "windows" else EventRules
    before = transform(rules(r=of), memory=open_memory)
    with RunPipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create([TimestampedValue(part, Timestamp(micros=START)) for part in first])
            | beam.Map(_itself)
            | before
        )
    told = set(open_memory().fired)
    check(transform(rules(r=of), memory=open_memory), [(0, part) for part in again], expected)
    assert told <= set(open_memory().fired)
