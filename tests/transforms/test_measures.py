"""Measures: equal to plain Python however events are cut into blocks, and percentiles to the library's own sketch."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import CubicallyInterpolatedMapping
from ddsketch.store import DenseStore
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from tests.examples import examples
from transforms.aggregates import ON_TIME, merge, pack, row_types, rows, unpack
from transforms.measures import AggregateConfig, measures_of
from transforms.measures.percentiles import keys_of, values_of
from transforms.partials import partials_of
from transforms.windows import WindowSpec

NAMES = ("stddev", "first", "last", "p1", "p50", "p99_9", "spread")


class Spread:
    """What a user may write: the sum of squares of whole numbers, weighed."""

    def __init__(self, weight: int = 1) -> None:
        self._weight = weight

    def partial(self, events: Mapping[str, pl.Expr]) -> Mapping[str, pl.Expr]:
        whole = events["value"].clip(-1e6, 1e6).cast(pl.Int64)
        return {"squares": (whole * whole).sum(), "newest": events["event_time"].max()}

    def merge(self, parts: Mapping[str, pl.Expr]) -> Mapping[str, pl.Expr]:
        return {"squares": parts["squares"].sum(), "newest": parts["newest"].max()}

    def finish(self, part: Mapping[str, pl.Expr]) -> pl.Expr:
        return part["squares"] * self._weight + part["count"] + part["newest"]


MEASURES = measures_of(NAMES, accuracy=0.01, own={"spread": AggregateConfig(use=f"{__name__}:Spread", options={"weight": 3})})
WINDOWS = (
    WindowSpec("fixed", 7, 7, measures=MEASURES),
    WindowSpec("sliding", 20, 5, measures=MEASURES),
    WindowSpec("plain", 14, 14),
)
number = st.floats(-1e3, 1e3) | st.sampled_from([0.0, -0.0, 0.1, 21.37, 1e-3]) | st.floats(allow_nan=True)
event = st.tuples(st.integers(-30, 30), st.sampled_from("ab"), st.none() | number, st.integers(1, 2), st.integers(0, 3))


def frame(events: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "gateway": ["g"] * len(events),
            "epoch": [epoch for *_, epoch, _ in events],
            "seq": [seq for *_, seq in events],
            "gateway_time": [0] * len(events),
            "device": [device for _, device, *_ in events],
            "channel": ["c"] * len(events),
            "event_time": [time for time, *_ in events],
            "value": pl.Series([value for _, _, value, *_ in events], dtype=pl.Float64),
        },
        schema_overrides={"epoch": pl.Int64, "seq": pl.Int64, "event_time": pl.Int64, "device": pl.String, "channel": pl.String},
    )


def deviation(values: list[float]) -> float:
    """`statistics.stdev` knows no infinities, and overflows where the sum of squares does as a float."""
    if any(map(math.isinf, values)):
        return math.nan
    return statistics.stdev(values)


def sketch(values: list[float], quantile: float, accuracy: float = 0.01) -> float:
    """The library's own, which cannot hold the very largest values."""
    made: Any = BaseDDSketch(CubicallyInterpolatedMapping(accuracy), DenseStore(), DenseStore(), 0.0)
    for value in values:
        made.add(value)
    return float(np.clip(made.get_quantile_value(quantile), min(values), max(values)))


def plain(events: list[Any]) -> dict[Any, list[float | None]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for time, device, value, epoch, seq in events:
        if value is not None and not math.isnan(value):
            for window in WINDOWS[:2]:
                for start in window.starts(time):
                    groups[window.name, start, device].append((time, epoch, seq, value))
    found = {}
    for key, members in groups.items():
        values = [value for *_, value in members]
        whole = [int(min(1e6, max(-1e6, value))) for value in values]
        finite = max(map(abs, values)) < 1e308
        found[key] = [
            deviation(values) if len(values) > 1 else None,
            min(members)[-1],
            max(members)[-1],
            *(sketch(values, quantile) if finite else None for quantile in (0.01, 0.5, 0.999)),
            3 * sum(one * one for one in whole) + len(values) + max(time for time, *_ in members),
        ]
    return found


def columns(blocks: list[list[Any]]) -> dict[Any, list[float | None]]:
    kept: dict[tuple[str, int], list[pl.DataFrame]] = defaultdict(list)
    for block in blocks:
        if block:
            for window, start, partial in partials_of(frame(block), WINDOWS):
                kept[window.name, start].append(unpack(pack(partial)))
    specs = {window.name: window for window in WINDOWS}
    found: dict[Any, list[float | None]] = {}
    for (name, start), partials in kept.items():
        # Grouped unevenly: what is merged is merged again.
        once = merge(partials[:2], specs[name].measures)
        table = rows(merge([once, *partials[2:]], specs[name].measures), specs[name], start, pane=ON_TIME, updated_at=1)
        assert set(row_types(specs[name]).items()) == set(table.schema.items())
        if specs[name].measures:
            for row in table.to_dicts():
                found[name, row["window_start"], row["device"]] = [row[column] for column in NAMES]
    return found


def same(found: Any, expected: Any) -> bool:
    def equal(one: float | None, other: float | None) -> bool:
        return other is None or one == other or (one is not None and math.isnan(one) and math.isnan(other))

    return found.keys() == expected.keys() and all(
        equal(one, other) for key in found for one, other in zip(found[key], expected[key], strict=True)
    )


@examples(12)
@given(st.lists(event, max_size=40), st.lists(st.integers(0, 40), max_size=4), st.randoms(use_true_random=False))
@example([(0, "a", 1e300, 1, 1), (0, "a", -1e300, 1, 1), (1, "a", 5e-324, 1, 0)], [1], random.Random(1))
@example([(0, "a", math.inf, 1, 1), (0, "a", 3e9, 1, 1), (1, "a", 2.5, 1, 0)], [2], random.Random(1))
def test_measures_equal_plain_python_in_any_order_and_grouping(events: list[Any], cuts: list[int], chance: Any) -> None:
    expected = plain(events)
    shuffled = list(events)
    chance.shuffle(shuffled)
    bounds = [0, *sorted(cuts), len(events)]
    blocks = [shuffled[start:end] for start, end in itertools.pairwise(bounds)]
    assert same(columns([events]), expected)
    assert same(columns(blocks), expected)
    chance.shuffle(blocks)
    found = columns(blocks)
    assert same(found, expected)
    assert same(found, columns([events]))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1013.25, 101_325.0, 5e9])
def test_the_deviation_is_that_of_exact_arithmetic_to_the_last_bit(scale: float) -> None:
    chance = random.Random(scale)
    for length in (2, 3, 1000):
        values = [scale + chance.gauss(0, 1e-7 * scale) for _ in range(length)]
        events = [(0, "a", value, 1, place) for place, value in enumerate(values)]
        assert columns([events])["fixed", 0, "a"][0] == statistics.stdev(values)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=50), st.sampled_from([0.1, 0.01, 0.001, 1e-5]))
def test_buckets_are_the_librarys_and_keep_its_promise(values: list[float], accuracy: float) -> None:
    mapping = CubicallyInterpolatedMapping(accuracy)
    array = np.array(values)
    keys = keys_of(array, accuracy)
    assert (np.diff(keys.astype(np.int64)[np.argsort(array, kind="stable")]) >= 0).all()
    for value, key, stands in zip(values, keys.tolist(), values_of(keys, accuracy).tolist(), strict=True):
        if math.isinf(value):
            assert stands == value
        elif abs(value) <= mapping.min_possible:
            assert key == 0
            assert stands == 0.0
        else:
            assert abs(key) - (1 << 30) == mapping.key(abs(value))
            if abs(value) < mapping.max_possible:
                assert abs(stands - value) <= accuracy * abs(value) * (1 + 1e-9)


def test_a_percentile_is_within_its_accuracy_of_the_exact_one() -> None:
    chance = np.random.default_rng(3)
    measures = measures_of(["p5", "p50", "p95"], accuracy=0.001, own={})
    window = WindowSpec("w", 10, 10, measures=measures)
    for values in (chance.normal(20, 5, 5_000), chance.lognormal(0, 3, 5_000), chance.normal(0, 1, 5_000)):
        events = [(place % 10, "a", value, 1, place) for place, value in enumerate(values.tolist())]
        parts = [
            part for block in range(0, 5_000, 700) for *_, part in partials_of(frame(events[block : block + 700]), (window,))
        ]
        row = rows(merge(parts, measures), window, 0, pane=ON_TIME, updated_at=0).to_dicts()[0]
        for name, quantile in (("p5", 0.05), ("p50", 0.5), ("p95", 0.95)):
            exact = float(np.quantile(values, quantile, method="lower"))
            assert abs(row[name] - exact) <= 0.001 * abs(exact)


def test_a_window_asked_for_nothing_has_no_more_columns_than_before() -> None:
    partials = {window.name: partial for window, _, partial in partials_of(frame([(1, "a", 2.0, 1, 1)]), WINDOWS)}
    assert set(partials["plain"].columns) == {"device", "channel", "count", "high", "middle", "low", "min", "max", "rest"}
    assert len(partials["fixed"].columns) > len(partials["plain"].columns)


@pytest.mark.parametrize(
    ("names", "own", "message"),
    [
        (["stdev"], {}, "did you mean 'stddev'"),
        (["p0"], {}, "there is no 'p0'"),
        (["spread"], {"spread": AggregateConfig(use="nowhere:Spread")}, "nowhere"),
        (["spread"], {"spread": AggregateConfig(use="spread")}, "no such entry point"),
        (["spread"], {"spread": AggregateConfig(use=f"{__name__}:Spread", options={"size": 1})}, "size"),
        (["p95"], {"p95": AggregateConfig(use=f"{__name__}:Spread")}, "no name"),
        (["broken"], {"broken": AggregateConfig(use=f"{__name__}:Broken")}, "does not work"),
    ],
)
def test_names_that_stand_for_nothing_are_refused(names: list[str], own: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        measures_of(names, accuracy=0.01, own=own)


class Broken(Spread):
    def finish(self, part: Mapping[str, pl.Expr]) -> pl.Expr:
        return pl.col("nothing")
