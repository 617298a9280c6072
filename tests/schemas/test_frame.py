"""Frames: what goes in comes out; foreign encodings are read; whatever is not a frame is refused with a reason."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import fastavro
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.errors import FrameError, SchemaError
from schemas.fingerprint import MAGIC, PREFIX_BYTES
from schemas.frame import (
    Frame,
    FrameIdentity,
    assemble,
    decode_frame,
    encode_agent_fields,
    encode_frame,
    encode_tail,
    first_times,
    frame_fingerprint,
    identity,
    peek,
)
from schemas.header import MAX_NAME_BYTES
from schemas.registry import EventSchema, Schemas, shipped
from schemas.varint import encode_long
from tests.schemas.events import EPOCH, frames_of_events, header, longs, names

SCHEMAS = Schemas.with_shipped()
READING = shipped("Reading")

Drawn = tuple[EventSchema, list[dict[str, Any]]]


def encoded(schema: EventSchema, event: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, event)
    return out.getvalue()


def decoded(frame: bytes) -> Frame:
    return decode_frame(frame, SCHEMAS)


def microseconds(moment: Any) -> int:
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


@given(frames_of_events())
def test_events_come_out_as_they_went_in(drawn: Drawn) -> None:
    schema, events = drawn
    frame = decode_frame(encode_frame(schema, events), SCHEMAS)
    assert (frame.schema, frame.events) == (schema, events)


@given(frames_of_events())
def test_a_peek_says_what_decoding_says(drawn: Drawn) -> None:
    schema, events = drawn
    frame = encode_frame(schema, events)
    found = peek(frame)
    assert found == identity(decode_frame(frame, SCHEMAS).events)
    assert found.next == events[-1]["seq"] + 1
    assert first_times(frame) == (microseconds(events[0]["gateway_time"]), microseconds(events[0]["event_time"]))
    assert frame_fingerprint(frame) == schema.fingerprint


@given(frames_of_events())
def test_what_agent_and_driver_encode_apart_is_the_frame_encoded_at_once(drawn: Drawn) -> None:
    schema, events = drawn
    items = [
        encode_agent_fields(event["gateway"], event["epoch"], event["seq"], microseconds(event["gateway_time"]))
        + encode_tail(schema, {name: value for name, value in event.items() if name not in header(0) or name in TAIL})
        for event in events
    ]
    assert assemble(schema, items) == encode_frame(schema, events)


TAIL = ("device", "channel", "event_time")


@given(frames_of_events(), st.data())
def test_an_array_in_several_blocks_is_read(drawn: Drawn, data: st.DataObject) -> None:
    # Foreign libraries may split an array, and give a block's size in bytes after a negative count.
    schema, events = drawn
    body, position = b"", 0
    while position < len(events):
        count = data.draw(st.integers(1, len(events) - position))
        items = b"".join(encoded(schema, event) for event in events[position : position + count])
        sized = data.draw(st.booleans())
        body += (encode_long(-count) + encode_long(len(items)) if sized else encode_long(count)) + items
        position += count
    frame = MAGIC + schema.fingerprint + body + b"\0"
    assert decode_frame(frame, SCHEMAS).events == events
    first = peek(frame)
    assert (first.gateway, first.epoch, first.first) == (events[0]["gateway"], events[0]["epoch"], events[0]["seq"])


@given(frames_of_events(most=4), st.data())
def test_a_frame_cut_short_is_refused(drawn: Drawn, data: st.DataObject) -> None:
    frame = encode_frame(*drawn)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(FrameError) as caught:
        decode_frame(frame[:cut], SCHEMAS)
    assert caught.value.message


def test_every_cut_of_a_frame_is_refused() -> None:
    frame = encode_frame(READING, [{**header(seq), "value": 0.5} for seq in range(3)])
    for cut in range(len(frame)):
        with pytest.raises(FrameError):
            decode_frame(frame[:cut], SCHEMAS)


@given(frames_of_events(most=4), st.binary(min_size=1, max_size=30))
def test_bytes_after_the_end_are_refused(drawn: Drawn, more: bytes) -> None:
    with pytest.raises(FrameError, match=f"{len(more)} bytes after the end"):
        decode_frame(encode_frame(*drawn) + more, SCHEMAS)


@given(st.binary(max_size=200), st.sampled_from([schema.fingerprint for schema in SCHEMAS]))
def test_random_bytes_raise_nothing_but_a_frame_error(rest: bytes, fingerprint: bytes) -> None:
    for data in (rest, MAGIC + fingerprint + rest):
        for read in (decoded, peek, first_times, frame_fingerprint):
            with suppress(FrameError):
                read(data)


@given(frames_of_events(most=3), st.data())
def test_a_damaged_frame_is_refused_or_is_another_frame(drawn: Drawn, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(*drawn))
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] ^= data.draw(st.integers(1, 255))
    for read in (decoded, peek, first_times):
        with suppress(FrameError):
            read(bytes(frame))


def test_an_unknown_fingerprint_is_named() -> None:
    frame = MAGIC + b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"\0"
    with pytest.raises(FrameError, match="unknown schema fingerprint 0102030405060708"):
        decode_frame(frame, SCHEMAS)


def test_an_empty_array_is_no_frame() -> None:
    frame = MAGIC + READING.fingerprint + b"\0"
    for read in (decoded, peek, first_times):
        with pytest.raises(FrameError, match="holds no events"):
            read(frame)
    with pytest.raises(SchemaError):
        encode_frame(READING, [])


@pytest.mark.parametrize("change", [{"seq": 5}, {"gateway": "other"}, {"epoch": 8}])
def test_events_that_are_not_consecutive_are_refused(change: dict[str, Any]) -> None:
    events = [{**header(0), "value": 0.5}, {**header(1), "value": 0.5, **change}]
    with pytest.raises(FrameError, match="event 1 is"):
        decode_frame(encode_frame(READING, events), SCHEMAS)


@pytest.mark.parametrize("name", ["gateway", "device", "channel"])
def test_names_too_long_for_the_keys_of_stores_are_neither_written_nor_read(name: str) -> None:
    longest = {**header(0), "value": 0.5, name: "é" * (MAX_NAME_BYTES // 2) + "e"}
    frame = encode_frame(READING, [longest])
    assert decoded(frame).events[0][name] == longest[name]
    longer = {**longest, name: longest[name] + "e"}
    with pytest.raises(SchemaError, match=f"name of its {name} has 256 bytes"):
        encode_frame(READING, [longer])
    with pytest.raises(FrameError, match=f"name of its {name} has 256 bytes"):
        decoded(assemble(READING, [encoded(READING, longer)]))


@pytest.mark.parametrize("missing", ["value", "device", "gateway"])
def test_an_event_without_a_field_is_refused_by_its_schema(missing: str) -> None:
    event = {**header(0), "value": 0.5}
    del event[missing]
    with pytest.raises(SchemaError, match="Reading"):
        encode_frame(READING, [event])


@pytest.mark.parametrize("value", ["text", None, [], b"bytes"])
def test_a_measurement_of_the_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(SchemaError, match="Reading") as caught:
        encode_tail(READING, {**{name: header(0)[name] for name in TAIL}, "value": value})
    assert caught.value.remedy == "fields: value"


def test_an_unknown_measurement_is_refused() -> None:
    with pytest.raises(SchemaError, match="Reading"):
        encode_tail(READING, {**{name: header(0)[name] for name in TAIL}, "value": 0.5, "vlaue": 0.5})


@given(names, longs, longs)
def test_agent_fields_are_the_beginning_of_an_event(gateway: str, epoch: int, seq: int) -> None:
    assume(abs(seq) < 2**62)
    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "Agent",
            "fields": [{"name": "gateway", "type": "string"}, *({"name": n, "type": "long"} for n in ("epoch", "seq", "time"))],
        }
    )
    found = fastavro.schemaless_reader(io.BytesIO(encode_agent_fields(gateway, epoch, seq, -5)), schema, None)
    assert found == {"gateway": gateway, "epoch": epoch, "seq": seq, "time": -5}


def test_identities_sort_by_gateway_epoch_and_first_event() -> None:
    wanted = [("a", 1, 0, 7), ("a", 1, 7, 1), ("a", 2, 0, 1), ("b", 1, 0, 1)]
    identities = [FrameIdentity(*fields) for fields in reversed(wanted)]
    assert sorted(identities) == identities[::-1]


def test_the_prefix_is_the_single_object_encoding() -> None:
    assert encode_frame(READING, [{**header(0), "value": 0.5}])[:PREFIX_BYTES] == b"\xc3\x01" + READING.fingerprint
