"""Frames for tests: of any events, in any legal encoding, and damaged."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
from hypothesis import strategies as st

from schemas.fingerprint import MAGIC
from schemas.frame import assemble
from schemas.header import HEADER
from schemas.registry import EventSchema, Schemas, event_schema, shipped
from schemas.varint import encode_long

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEADER_FIELDS = [{"name": name, "type": type_} for name, type_ in HEADER]

READING = shipped("Reading")
#: One measurement of every kind that has a column type.
MANY = event_schema(
    {
        "type": "record",
        "name": "Many",
        "fields": [
            *HEADER_FIELDS,
            {"name": "a", "type": "int"},
            {"name": "b", "type": ["null", "long"]},
            {"name": "c", "type": ["float", "null"]},
            {"name": "d", "type": "boolean"},
            {"name": "e", "type": ["null", "string"]},
            {"name": "f", "type": "bytes"},
            {"name": "g", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
)
#: Measurements that only the reference can decode.
ODD = event_schema(
    {
        "type": "record",
        "name": "Odd",
        "fields": [
            *HEADER_FIELDS,
            {"name": "list", "type": {"type": "array", "items": "long"}},
            {"name": "mode", "type": {"type": "enum", "name": "Mode", "symbols": ["off", "on"]}},
            {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 4}},
        ],
    }
)
SCHEMAS = Schemas.with_shipped([MANY, ODD])

names = st.text(max_size=70)
micros = st.integers(-(10**15), 10**16)
times = micros.map(lambda value: EPOCH + timedelta(microseconds=value))
longs = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False)

MEASUREMENTS: dict[EventSchema, st.SearchStrategy[dict[str, Any]]] = {
    READING: st.fixed_dictionaries({"value": numbers}),
    shipped("State"): st.fixed_dictionaries({"value": st.booleans()}),
    shipped("Text"): st.fixed_dictionaries({"value": st.text(max_size=200)}),
    shipped("Blob"): st.fixed_dictionaries({"content_type": names, "value": st.binary(max_size=300)}),
    MANY: st.fixed_dictionaries(
        {
            "a": st.integers(-(2**31), 2**31 - 1),
            "b": st.none() | longs,
            "c": st.none() | st.floats(width=32, allow_nan=False),
            "d": st.booleans(),
            "e": st.none() | names,
            "f": st.binary(max_size=80),
            "g": st.integers(-(10**12), 10**13).map(lambda value: EPOCH + timedelta(milliseconds=value)),
        }
    ),
    ODD: st.fixed_dictionaries(
        {"list": st.lists(longs, max_size=3), "mode": st.sampled_from(["off", "on"]), "id": st.binary(min_size=4, max_size=4)}
    ),
}


@st.composite
def events(draw: st.DrawFn, schema: EventSchema, *, most: int = 6) -> list[dict[str, Any]]:
    """Events of one frame."""
    gateway, epoch, first = draw(names), draw(longs), draw(st.integers(-10, 2**40))
    tails = draw(st.lists(st.tuples(times, names, names, times, MEASUREMENTS[schema]), min_size=1, max_size=most))
    return [
        {
            "gateway": gateway,
            "epoch": epoch,
            "seq": first + place,
            "gateway_time": gateway_time,
            "device": device,
            "channel": channel,
            "event_time": event_time,
            **measured,
        }
        for place, (gateway_time, device, channel, event_time, measured) in enumerate(tails)
    ]


def items(schema: EventSchema, found: Sequence[Mapping[str, Any]]) -> list[bytes]:
    encoded = []
    for event in found:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema.parsed, event)
        encoded.append(out.getvalue())
    return encoded


def foreign(schema: EventSchema, encoded: Sequence[bytes], cuts: Sequence[int], *, sized: bool) -> bytes:
    """A frame of several array blocks, with their sizes or without."""
    bounds = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(encoded)), len(encoded)]
    blocks = []
    for start, end in itertools.pairwise(bounds):
        body = b"".join(encoded[start:end])
        blocks.append((encode_long(start - end) + encode_long(len(body)) if sized else encode_long(end - start)) + body)
    return MAGIC + schema.fingerprint + b"".join(blocks) + b"\0"


@st.composite
def sound_frames(draw: st.DrawFn) -> bytes:
    """A frame of any known schema in any legal encoding."""
    schema = draw(st.sampled_from(list(MEASUREMENTS)))
    encoded = items(schema, draw(events(schema)))
    if draw(st.integers(0, 3)):
        return assemble(schema, encoded)
    return foreign(schema, encoded, draw(st.lists(st.integers(1, 5), max_size=3)), sized=draw(st.booleans()))


@st.composite
def damaged_frames(draw: st.DrawFn) -> bytes:
    """A frame to which something has happened, which it may even survive."""
    frame = bytearray(draw(sound_frames()))
    place = draw(st.integers(0, len(frame) - 1))
    match draw(st.integers(0, 5)):
        case 0:
            frame[place] ^= 1 << draw(st.integers(0, 7))
        case 1:
            del frame[place:]
        case 2:
            frame += draw(st.binary(min_size=1, max_size=12))
        case 3:
            frame[place] = draw(st.integers(0, 255))
        case 4:
            frame.insert(place, draw(st.integers(0, 255)))
        case _:
            frame[place:] = draw(st.binary(max_size=40))
    return bytes(frame)
