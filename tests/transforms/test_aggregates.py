"""Partials and rows: equal to plain Python, exactly, however events are cut into blocks."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from transforms.aggregates import ON_TIME, ROW_TYPES, measurements, merge, pack, rows, slices, unpack
from transforms.partials import partials_of
from transforms.windowing import shard_of
from transforms.windows import WindowSpec

WINDOWS = (WindowSpec("fixed", 7, 7), WindowSpec("sliding", 20, 5), WindowSpec("odd", 9, 6), WindowSpec("wide", 14 * 3, 14 * 3))

event = st.tuples(
    st.integers(-100, 100),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["x", "y"]),
    st.none() | st.floats(allow_nan=True) | st.floats(-1e3, 1e3),
)
Found = dict[tuple[str, int, str, str], tuple[int, float, float, float, float]]


def frame(events: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "gateway": ["g"] * len(events),
            "epoch": [1] * len(events),
            "seq": range(len(events)),
            "gateway_time": [0] * len(events),
            "device": [device for _, device, _, _ in events],
            "channel": [channel for _, _, channel, _ in events],
            "event_time": [time for time, _, _, _ in events],
            "value": pl.Series([value for *_, value in events], dtype=pl.Float64),
        },
        schema_overrides={"epoch": pl.Int64, "event_time": pl.Int64, "device": pl.String, "channel": pl.String},
    )


def plain(events: list[Any]) -> Found:
    groups: dict[tuple[str, int, str, str], list[float]] = defaultdict(list)
    for time, device, channel, value in events:
        if value is None or math.isnan(value):
            continue
        for window in WINDOWS:
            for start in range((time - window.size) // window.every * window.every, time + 1, window.every):
                if start <= time < start + window.size:
                    groups[window.name, start, device, channel].append(value)
    found: Found = {}
    for key, values in groups.items():
        total = fsum(values)
        found[key] = (len(values), total, total / len(values), min(values), max(values))
    return found


def fsum(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.copysign(math.inf, math.fsum(value / 2 for value in values))


def columns(blocks: list[list[Any]]) -> Found:
    kept: dict[tuple[str, int], list[pl.DataFrame]] = defaultdict(list)
    for block in blocks:
        if block:
            for window, start, partial in partials_of(frame(block), WINDOWS):
                kept[window.name, start].append(unpack(pack(partial)))
    specs = {window.name: window for window in WINDOWS}
    found: Found = {}
    for (name, start), partials in kept.items():
        table = rows(merge(partials), specs[name], start, pane=ON_TIME, updated_at=1)
        assert dict(table.schema) == ROW_TYPES
        for row in table.to_dicts():
            assert row["window_end"] - row["window_start"] == specs[name].size
            key = (name, row["window_start"], row["device"], row["channel"])
            found[key] = (row["count"], row["sum"], row["mean"], row["min"], row["max"])
    return found


def same(found: Found, expected: Found) -> bool:
    return found.keys() == expected.keys() and all(
        all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found[key], expected[key], strict=True)) for key in found
    )


@examples(25)
@given(st.lists(event, max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_windows_equal_plain_python_however_events_are_cut_into_blocks(events: list[Any], cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(events)]
    blocks = [events[start:end] for start, end in itertools.pairwise(bounds)]
    expected = plain(events)
    assert same(columns([events]), expected)
    assert same(columns(blocks), expected)
    assert same(columns(blocks[::-1]), expected)


def test_one_measurement_goes_by_the_channels_name_and_several_by_their_own() -> None:
    header = frame([(1, "dev", "position", 2.0)])
    assert measurements(header).to_dicts() == [{"event_time": 1, "device": "dev", "channel": "position", "value": 2.0}]
    several = header.with_columns(pl.lit(True).alias("fix"), pl.lit("x").alias("note"), pl.lit(3).alias("satellites"))
    assert [(row["channel"], row["value"]) for row in measurements(several).to_dicts()] == [
        ("position", None),
        ("position.value", 2.0),
        ("position.fix", 1.0),
        ("position.satellites", 3.0),
    ]
    text = header.drop("value").with_columns(pl.lit("text").alias("value"))
    assert [(row["channel"], row["value"]) for row in measurements(text).to_dicts()] == [("position", None)]


def test_events_without_one_number_are_counted_under_their_channel_with_no_sum() -> None:
    header = frame([(1, "dev", "notes", 2.0), (2, "dev", "notes", 3.0)]).drop("value").with_columns(pl.lit("x").alias("text"))
    window = WindowSpec("w", 10, 10, 0)
    partial = slices(measurements(header), 10).drop("slice")
    found = rows(merge([partial]), window, 0, pane="on_time", updated_at=0).to_dicts()
    assert [(row["channel"], row["count"], row["sum"], row["mean"], row["min"], row["max"]) for row in found] == [
        ("notes", 2, None, None, None, None)
    ]


def test_a_series_has_the_same_shard_in_every_version() -> None:
    assert [shard_of(f"device-{number}", "temperature", 7) for number in range(6)] == [
        __import__("zlib").crc32(f"device-{number}\0temperature".encode()) % 7 for number in range(6)
    ]
