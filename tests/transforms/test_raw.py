"""Where each event's bytes lie: as fastavro encodes events one by one, whatever they hold."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FrameError
from schemas.registry import EventSchema, Schemas, event_schema
from schemas.varint import encode_long
from tests.storage.frames import READING, START
from transforms.decode import Decoder
from transforms.raw import event_bytes, items_of

PLAIN = event_schema(
    {
        "type": "record",
        "name": "Plain",
        "fields": [
            *READING.record["fields"][:7],
            {"name": "number", "type": ["null", "long"]},
            {"name": "small", "type": "int"},
            {"name": "text", "type": ["string", "null"]},
            {"name": "data", "type": "bytes"},
            {"name": "single", "type": "float"},
            {"name": "on", "type": ["null", "boolean"]},
        ],
    }
)
LISTS = event_schema(
    {
        "type": "record",
        "name": "Lists",
        "fields": [*READING.record["fields"][:7], {"name": "list", "type": {"type": "array", "items": "string"}}],
    }
)
longs = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200)
plain = st.fixed_dictionaries(
    {
        "device": st.text(max_size=200),
        "channel": st.text(max_size=5),
        "number": st.none() | longs,
        "small": st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70),
        "text": st.none() | st.text(max_size=80),
        "data": st.binary(max_size=100),
        "single": st.floats(width=32, allow_nan=False),
        "on": st.none() | st.booleans(),
    }
)
lists = st.fixed_dictionaries(
    {"device": st.text(max_size=3), "channel": st.just("c"), "list": st.lists(st.text(max_size=4), max_size=4)}
)


def encoded(schema: EventSchema, measured: list[dict[str, Any]], seq: int) -> list[bytes]:
    found = []
    for place, fields in enumerate(measured):
        out = io.BytesIO()
        header = {"gateway": "g", "epoch": 1, "seq": seq + place, "gateway_time": START, "event_time": START}
        fastavro.schemaless_writer(out, schema.parsed, {**header, **fields})
        found.append(out.getvalue())
    return found


def frame(schema: EventSchema, items: list[bytes]) -> bytes:
    return b"".join((b"\xc3\x01", schema.fingerprint, encode_long(len(items)), *items, b"\0"))


def split(schema: EventSchema, frames: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for part in Decoder(Schemas([schema])).decode(frames).events:
        items = [items_of(frames[place]) for place in part.places.tolist()]
        found += event_bytes(schema, part.columns, items, part.counts).to_list()
    return sorted(found)


@given(st.lists(st.lists(plain, min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 2**40))
def test_of_columns(measured: list[list[dict[str, Any]]], seq: int) -> None:
    sent = [encoded(PLAIN, events, seq + 10 * number) for number, events in enumerate(measured)]
    assert split(PLAIN, [frame(PLAIN, items) for items in sent]) == sorted(item for items in sent for item in items)


@given(st.lists(st.lists(lists, min_size=1, max_size=6), min_size=1, max_size=4))
def test_of_fields_that_are_no_columns(measured: list[list[dict[str, Any]]]) -> None:
    sent = [encoded(LISTS, events, 10 * number) for number, events in enumerate(measured)]
    assert split(LISTS, [frame(LISTS, items) for items in sent]) == sorted(item for items in sent for item in items)


def test_of_integers_that_are_longer_than_needed() -> None:
    measured = [{"device": "d", "channel": "c", "value": 1.5}] * 3
    items = encoded(READING, measured, 0)
    # Epoch 1 is one byte behind the gateway's name; a foreign writer may take two.
    items[1] = items[1][:2] + b"\x82\x00" + items[1][3:]
    assert split(READING, [frame(READING, items), frame(READING, encoded(READING, measured, 3))]) == sorted(
        [*items, *encoded(READING, measured, 3)]
    )


def test_items_that_are_others_are_refused() -> None:
    items = encoded(READING, [{"device": "d", "channel": "c", "value": 1.5}] * 2, 0)
    (part,) = Decoder(Schemas([READING])).decode([frame(READING, items)]).events
    with pytest.raises(FrameError):
        event_bytes(READING, part.columns, [b"".join(items) + b"\0"], np.array([2]))
    with pytest.raises(FrameError):
        items_of(frame(READING, items)[:-1])
