"""Commands, their states, and the control records of a topic, on the wire."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.command import (
    FINAL_STEPS,
    STEPS,
    Command,
    CommandState,
    decode_command,
    decode_command_state,
    encode_command,
    encode_command_state,
)
from schemas.control import Dropped, EpochStart, control_fingerprints, decode_control, encode_control, is_control
from schemas.errors import FrameError
from schemas.fingerprint import MAGIC, PREFIX_BYTES, fingerprint
from schemas.frame import encode_frame, frame_fingerprint
from schemas.registry import Schemas, shipped, shipped_text
from tests.schemas.events import header, longs

texts = st.text(max_size=20)
times = st.integers(0, 2**62)
commands = st.builds(Command, texts, texts, texts, texts, texts, texts, times, times)
states = st.builds(CommandState, texts, texts, texts, st.sampled_from(STEPS), times, texts)
controls = st.one_of(
    st.builds(EpochStart, texts, longs, st.none() | longs, st.none() | longs),
    st.builds(Dropped, texts, longs, longs, longs, texts),
)


@given(commands, states, controls)
def test_they_come_out_as_they_went_in(command: Command, state: CommandState, control: EpochStart | Dropped) -> None:
    assert decode_command(encode_command(command)) == command
    assert decode_command_state(encode_command_state(state)) == state
    assert decode_control(encode_control(control)) == control


def test_a_command_is_a_single_object_any_avro_library_reads() -> None:
    command = Command("id-1", "gateway-1", "fan", "set", '{"on": true}', "rule", 1_273_363_200_000_000, 1_273_363_260_000_000)
    data = encode_command(command)
    schema = json.loads(shipped_text("Command"))
    assert data[:PREFIX_BYTES] == MAGIC + fingerprint(schema)
    found: Any = fastavro.schemaless_reader(io.BytesIO(data[PREFIX_BYTES:]), fastavro.parse_schema(schema), None)
    assert (found["id"], found["args"], found["issued_at"].isoformat()) == ("id-1", '{"on": true}', "2010-05-09T00:00:00+00:00")


@given(controls, st.data())
def test_damaged_ones_are_refused_or_are_others(control: EpochStart | Dropped, data: st.DataObject) -> None:
    whole = {
        decode_control: encode_control(control),
        decode_command: encode_command(data.draw(commands)),
        decode_command_state: encode_command_state(data.draw(states)),
    }
    for decode, frame in whole.items():
        cut = data.draw(st.integers(0, len(frame) - 1))
        for broken in (frame[:cut], frame + data.draw(st.binary(min_size=1, max_size=5))):
            with pytest.raises(FrameError) as caught:
                decode(broken)
            assert caught.value.message
        flipped = bytearray(frame)
        flipped[cut] ^= data.draw(st.integers(1, 255))
        with suppress(FrameError):
            decode(bytes(flipped))


@given(st.binary(max_size=100))
def test_random_bytes_raise_nothing_but_a_frame_error(rest: bytes) -> None:
    records = (EpochStart("g", 1, None, None), Dropped("g", 1, 0, 1, "full"))
    prefixes = [encode_control(record)[:PREFIX_BYTES] for record in records]
    readers: list[Callable[[bytes], object]] = [decode_control, decode_command, decode_command_state]
    for data in (rest, *(prefix + rest for prefix in prefixes)):
        for read in readers:
            with suppress(FrameError):
                read(data)


def test_kinds_are_not_taken_for_each_other() -> None:
    command = encode_command(Command("i", "g", "d", "n", "{}", "x", 1, 2))
    state = encode_command_state(CommandState("i", "g", "d", "done", 1, ""))
    event = encode_frame(shipped("Reading"), [{**header(0), "value": 0.5}])
    start = encode_control(EpochStart("g", 2, 1, 41))
    for decode, others in (
        (decode_command, (state, event, start)),
        (decode_command_state, (command, event, start)),
        (decode_control, (command, state, event)),
    ):
        for other in others:
            with pytest.raises(FrameError):
                decode(other)
    assert [is_control(data) for data in (command, state, event, start, b"")] == [False, False, False, True, False]


def test_control_records_are_told_from_events_by_their_fingerprint() -> None:
    records = [EpochStart("g", 2, None, None), Dropped("g", 1, 5, 9, "outbox full")]
    assert control_fingerprints() == {frame_fingerprint(encode_control(record)): type(record).__name__ for record in records}
    assert not set(control_fingerprints()) & {schema.fingerprint for schema in Schemas.with_shipped()}


def test_an_unknown_state_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="lost"):
        encode_command_state(CommandState("i", "g", "d", "lost", 1, ""))  # type: ignore[arg-type]


def test_final_steps_are_steps_and_leave_some_to_come() -> None:
    assert set(FINAL_STEPS) < set(STEPS)
    assert set(STEPS) - FINAL_STEPS == {"accepted", "started"}
    schema = json.loads(shipped_text("CommandState"))
    (symbols,) = [field["type"]["symbols"] for field in schema["fields"] if field["name"] == "state"]
    assert symbols == list(STEPS)
