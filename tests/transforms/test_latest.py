"""The newest value of each series: what a plain loop over the events finds."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from storage.tables import LATEST
from transforms.columns import HEADER_TYPES
from transforms.latest import latest

EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("cd"), st.integers(0, 5), st.integers(1, 2), st.floats(-9, 9)), max_size=40
)


def columns(rows: list[dict[str, Any]], **measured: pl.DataType) -> pl.DataFrame:
    header = {"gateway": "g", "epoch": 1, "gateway_time": 0, "device": "a", "channel": "c", "event_time": 0}
    whole = [{**header, "seq": place, **row} for place, row in enumerate(rows)]
    return pl.DataFrame(whole, schema={**HEADER_TYPES, **measured}, orient="row")


@given(EVENTS)
def test_it_is_the_newest_by_event_time_then_epoch_then_seq(found: list[tuple[str, str, int, int, float]]) -> None:
    rows = [
        {"device": device, "channel": channel, "event_time": time, "epoch": epoch, "value": value}
        for device, channel, time, epoch, value in found
    ]
    newest: dict[tuple[str, str], tuple[int, int, int, float]] = {}
    for seq, (device, channel, time, epoch, value) in enumerate(found):
        key, candidate = (device, channel), (time, epoch, seq, value)
        if key not in newest or candidate[:3] > newest[key][:3]:
            newest[key] = candidate
    result = latest(columns(rows, value=pl.Float64()), updated_at=7)
    names = ("device", "channel", "event_time", "epoch", "seq", "value")
    assert sorted(result.select(names).rows()) == sorted((*key, *of) for key, of in newest.items())
    assert LATEST.conform(result).equals(result)


def test_texts_states_and_several_measurements_have_their_place() -> None:
    assert latest(columns([{"value": "on"}], value=pl.String()), updated_at=0).select("value", "text").rows() == [(None, "on")]
    assert latest(columns([{"value": True}], value=pl.Boolean()), updated_at=0).select("value", "text").rows() == [(1.0, None)]
    assert latest(columns([{"value": 7}], value=pl.Int64()), updated_at=0).select("value", "text").rows() == [(7.0, None)]
    blob = latest(
        columns([{"content_type": "image/png", "value": b"1234"}], content_type=pl.String(), value=pl.Binary()), updated_at=0
    )
    assert json.loads(blob["text"][0]) == {"content_type": "image/png", "value": "4 bytes"}
    assert blob["value"][0] is None


def test_what_json_cannot_write_is_null_among_several_measurements() -> None:
    found = latest(
        columns([{"lat": float("nan"), "lon": float("-inf"), "up": 1.5}], lat=pl.Float64(), lon=pl.Float32(), up=pl.Float64()),
        updated_at=0,
    )
    assert msgspec.json.decode(found["text"][0]) == {"lat": None, "lon": None, "up": 1.5}


def test_no_events_are_no_rows() -> None:
    assert latest(columns([], value=pl.Float64()), updated_at=0).is_empty()
