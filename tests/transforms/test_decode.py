"""Decoding in columns: equal to the reference for any mix of frames, whatever has happened to them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import Dropped, EpochStart, decode_control, encode_control, is_control
from schemas.errors import FrameError
from schemas.fingerprint import PREFIX_BYTES
from schemas.frame import assemble, decode_frame, encode_frame
from schemas.header import MAX_NAME_BYTES
from schemas.registry import Schemas, event_schema
from schemas.varint import encode_long, encode_string
from tests.examples import examples
from tests.transforms.frames import (
    HEADER_FIELDS,
    MANY,
    ODD,
    READING,
    SCHEMAS,
    damaged_frames,
    events,
    foreign,
    items,
    sound_frames,
)
from transforms.columns import column_types, rows_of_frame
from transforms.decode import Decoded, Decoder

control_frames = st.builds(
    EpochStart,
    st.text(max_size=9),
    st.integers(0, 2**50),
    st.none() | st.integers(0, 2**50),
    st.none() | st.integers(0, 2**50),
).map(encode_control) | st.builds(
    Dropped, st.text(max_size=9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.text(max_size=9)
).map(encode_control)
any_frames = st.lists(st.one_of(sound_frames(), damaged_frames(), control_frames, st.binary(max_size=30)), max_size=12)


def by_reference(frames: Sequence[bytes]) -> dict[int, Any]:
    """For each frame its rows, its control record, or the reason it is refused."""
    found: dict[int, Any] = {}
    for place, frame in enumerate(frames):
        try:
            if is_control(frame):
                found[place] = decode_control(frame)
                continue
            schema = decode_frame(frame, SCHEMAS).schema
            found[place] = rows_of_frame(schema, io.BytesIO(frame[PREFIX_BYTES:]))
        except FrameError as error:
            found[place] = str(error)
    return found


def flat(decoded: Decoded) -> dict[int, Any]:
    """The same out of what the decoder gives."""
    found: dict[int, Any] = dict(decoded.dead)
    found.update(decoded.control)
    for part in decoded.events:
        assert dict(part.columns.schema) == column_types(part.schema)
        assert part.counts.sum() == len(part.columns)
        rows = part.columns.to_dicts()
        for place, count in zip(part.places.tolist(), part.counts.tolist(), strict=True):
            assert place not in found
            found[place], rows = rows[:count], rows[count:]
    return found


def same(found: Any, expected: Any) -> bool:
    """Equal, where damage may have made numbers that are not equal to themselves."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(same(a, b) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(found, float) and math.isnan(found)
    return bool(found == expected)


def agree(frames: Sequence[bytes], *, native: bool = True) -> None:
    found, expected = flat(Decoder(SCHEMAS, native=native).decode(frames)), by_reference(frames)
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        assert same(found[place], value), (place, found[place], value)


@examples(200)
@given(frames=any_frames)
def test_any_mix_of_frames_decodes_as_the_reference_says(frames: list[bytes]) -> None:
    agree(frames)


@examples(40)
@given(frames=any_frames)
def test_without_the_native_decoder_the_result_is_the_same(frames: list[bytes]) -> None:
    agree(frames, native=False)


@pytest.mark.slow
@examples(10)
@given(data=st.data(), schema=st.sampled_from([READING, MANY]))
def test_frames_of_one_event_and_of_thousands_decode_alike(data: st.DataObject, schema: Any) -> None:
    found = data.draw(events(schema, most=3))
    many = [{**found[0], "seq": place} for place in range(1500)]
    agree([encode_frame(schema, [event]) for event in many[:700]] + [encode_frame(schema, many), encode_frame(schema, found)])


@given(data=st.data(), schema=st.sampled_from([READING, MANY, ODD]), sized=st.booleans())
def test_foreign_encodings_of_several_array_blocks_are_read(data: st.DataObject, schema: Any, sized: bool) -> None:
    found = data.draw(events(schema))
    frame = foreign(schema, items(schema, found), list(range(1, len(found))), sized=sized)
    decoded = Decoder(SCHEMAS).decode([frame, assemble(schema, items(schema, found))])
    assert not decoded.dead
    assert sum(len(part.columns) for part in decoded.events) == 2 * len(found)


def test_one_damaged_frame_among_many_costs_only_itself() -> None:
    frames = [encode_frame(READING, [reading(seq)]) for seq in range(5000)]
    frames[1234] = frames[1234][:-3]
    frames[4000] += b"\0"
    decoded = Decoder(SCHEMAS).decode(frames)
    assert [place for place, _ in decoded.dead] == [1234, 4000]
    assert sum(len(part.columns) for part in decoded.events) == 4998
    assert "bytes after the end" in decoded.dead[1][1]


def test_a_length_that_swallows_the_next_event_is_refused() -> None:
    """A frame whose bytes would decode, but not to the events it says it has."""
    good = items(READING, [reading(0), reading(1)])
    longer_device = good[0].replace(encode_long(len("dev")) + b"dev", encode_long(len("dev") + 1) + b"dev")
    agree([assemble(READING, [longer_device, good[1]]), assemble(READING, good)])


def test_names_too_long_for_the_keys_of_stores_are_refused_whole() -> None:
    short, longest = reading(0), {**reading(1), "device": "d" * MAX_NAME_BYTES}
    longer = items(READING, [longest])[0].replace(encode_string(longest["device"]), encode_string(longest["device"] + "d"))
    frames = [encode_frame(READING, [short, longest]), assemble(READING, [*items(READING, [short]), longer])]
    agree(frames)
    assert [place for place, _ in Decoder(SCHEMAS).decode(frames).dead] == [1]
    control = encode_control(Dropped("g" * (MAX_NAME_BYTES + 1), 1, 0, 4, "outbox-full"))
    assert "name of its gateway" in Decoder(SCHEMAS).decode([control]).dead[0][1]


def test_a_count_that_cannot_be_true_takes_no_memory() -> None:
    frame = encode_frame(READING, [reading(0)])
    lying = frame[:PREFIX_BYTES] + encode_long(2**40) + frame[PREFIX_BYTES + 1 :]
    decoded = Decoder(SCHEMAS).decode([lying, frame])
    assert [place for place, _ in decoded.dead] == [0]


def test_an_unknown_fingerprint_is_named() -> None:
    stranger = event_schema({"type": "record", "name": "Stranger", "fields": HEADER_FIELDS})
    frame = encode_frame(stranger, [{name: value for name, value in reading(0).items() if name != "value"}])
    decoded = Decoder(SCHEMAS).decode([frame])
    assert stranger.fingerprint.hex() in decoded.dead[0][1]
    assert Decoder(Schemas([stranger])).decode([frame]).events[0].columns.height == 1


@pytest.mark.parametrize("byte", range(256))
def test_any_byte_for_a_truth_value_is_judged_as_the_reference_judges(byte: int) -> None:
    from schemas.registry import shipped

    frame = encode_frame(shipped("State"), [{**reading(0), "value": True}])
    agree([frame[:-2] + bytes([byte]) + frame[-1:], frame])


def test_nothing_decodes_to_nothing() -> None:
    assert flat(Decoder(SCHEMAS).decode([])) == {}


def test_columns_without_their_own_type_are_json_text() -> None:
    header = {name: value for name, value in reading(0).items() if name != "value"}
    event = {**header, "list": [1, 2], "mode": "on", "id": b"\1\2\3\4"}
    part = Decoder(SCHEMAS).decode([encode_frame(ODD, [event])]).events[0]
    assert part.columns.select("list", "mode", "id").row(0) == ("[1, 2]", '"on"', '"01020304"')
    assert isinstance(part.columns, pl.DataFrame)


def test_json_text_of_columns_is_json_whatever_the_numbers() -> None:
    fields = [*HEADER_FIELDS, {"name": "places", "type": {"type": "array", "items": {"type": "map", "values": "double"}}}]
    schema = event_schema({"type": "record", "name": "Places", "fields": fields})
    header = {name: value for name, value in reading(0).items() if name != "value"}
    frame = encode_frame(schema, [{**header, "places": [{"lat": math.nan, "lon": 1.5}, {"lat": math.inf}]}])
    text = Decoder(Schemas([schema])).decode([frame]).events[0].columns["places"][0]
    assert msgspec.json.decode(text) == [{"lat": None, "lon": 1.5}, {"lat": None}]


def reading(seq: int) -> dict[str, Any]:
    from tests.transforms.frames import EPOCH

    return {
        "gateway": "gw",
        "epoch": 7,
        "seq": seq,
        "gateway_time": EPOCH,
        "device": "dev",
        "channel": "temperature",
        "event_time": EPOCH,
        "value": 1.5,
    }
