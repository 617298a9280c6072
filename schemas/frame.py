"""Frames: what a broker message carries.

The Avro single-object encoding of an array of one event schema. The frames written here hold one
array block; the ones read may hold any legal encoding of an array. This is the reference in plain
Python, for the agent and for clients; pipelines decode columns at a time (`transforms.decode`).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro

from schemas.errors import FrameError, SchemaError
from schemas.fingerprint import MAGIC, PREFIX_BYTES
from schemas.header import HEADER_NAMES, overlong
from schemas.registry import EventSchema, Schemas
from schemas.varint import decode_long, decode_string, encode_long, encode_string

#: A frame is closed when it reaches either; one event larger than MAX_BYTES is a frame alone.
MAX_EVENTS: Final = 1_000
MAX_BYTES: Final = 256 * 1024

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class FrameIdentity:
    """What makes two messages of a topic the same frame. The topic is the broker's to say."""

    gateway: str
    epoch: int
    first: int
    count: int

    @property
    def next(self) -> int:
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame."""

    schema: EventSchema
    events: list[Event]


def encode_agent_fields(gateway: str, epoch: int, seq: int, gateway_time: int) -> bytes:
    """Encode the four fields the agent puts before what a driver's process encoded. Times: µs since 1970, UTC."""
    return encode_string(gateway) + encode_long(epoch) + encode_long(seq) + encode_long(gateway_time)


def encode_tail(schema: EventSchema, event: Mapping[str, Any]) -> bytes:
    """Encode device, channel, event_time and the measurements. Raises `SchemaError` when they do not fit."""
    if problem := overlong([event]):
        raise SchemaError(f"{schema.name}: {problem}")
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, schema.tail, event, strict=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise SchemaError(f"{schema.name}: {_why(error)}", remedy="fields: " + ", ".join(schema.measurements)) from error
    return out.getvalue()


def assemble(schema: EventSchema, items: Sequence[bytes]) -> bytes:
    """Build a frame of already encoded events."""
    return b"".join((MAGIC, schema.fingerprint, encode_long(len(items)), *items, b"\0")) if items else _refuse_empty()


def encode_frame(schema: EventSchema, events: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode whole events, header included. Raises `SchemaError`."""
    items = []
    for event in events:
        if problem := overlong([event]):
            raise SchemaError(f"{schema.name}: {problem}")
        out = io.BytesIO()
        try:
            fastavro.schemaless_writer(out, schema.parsed, event, strict=True)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise SchemaError(f"{schema.name}: {_why(error)}") from error
        items.append(out.getvalue())
    return assemble(schema, items)


def frame_fingerprint(frame: bytes) -> bytes:
    """The fingerprint of a frame's schema. Raises `FrameError` when the bytes do not begin like a frame."""
    if len(frame) < PREFIX_BYTES or frame[:2] != MAGIC:
        raise FrameError(f"does not begin with the single-object marker c301: {frame[:PREFIX_BYTES].hex() or 'empty'}")
    return frame[2:PREFIX_BYTES]


def peek(frame: bytes) -> FrameIdentity:
    """Read a frame's identity from its first event and the count of its first block. Raises `FrameError`.

    Exact for frames written here. A foreign encoding in several blocks holds more events than this
    says; who must be exact about any frame decodes it (`identity` of its events).
    """
    frame_fingerprint(frame)
    count, position = decode_long(frame, PREFIX_BYTES)
    if count < 0:
        count = -count
        _, position = decode_long(frame, position)
    if count == 0:
        raise FrameError("holds no events")
    gateway, position = decode_string(frame, position)
    epoch, position = decode_long(frame, position)
    first, position = decode_long(frame, position)
    return FrameIdentity(gateway, epoch, first, count)


def first_times(frame: bytes) -> tuple[int, int]:
    """When the gateway accepted a frame's first event, and its event time; µs since 1970, UTC. Raises `FrameError`."""
    frame_fingerprint(frame)
    count, position = decode_long(frame, PREFIX_BYTES)
    if count < 0:
        _, position = decode_long(frame, position)
    elif count == 0:
        raise FrameError("holds no events")
    _, position = decode_string(frame, position)
    for _ in range(2):
        _, position = decode_long(frame, position)
    gateway_time, position = decode_long(frame, position)
    for _ in range(2):
        _, position = decode_string(frame, position)
    event_time, _ = decode_long(frame, position)
    return gateway_time, event_time


def decode_frame(frame: bytes, schemas: Schemas, *, reader: EventSchema | None = None) -> Frame:
    """Decode a frame, whole or not at all.

    Times come as aware datetimes in UTC. With ``reader`` the events are resolved to that schema.
    Raises `FrameError` with the reason when the bytes are truncated, damaged, of an unknown
    fingerprint, followed by others, or do not hold consecutive events of one gateway and epoch, with names of a length that
    can be stored (`schemas.header.MAX_NAME_BYTES`).
    """
    schema = schemas[frame_fingerprint(frame)]
    stream = io.BytesIO(frame)
    stream.seek(PREFIX_BYTES)
    try:
        events: Any = fastavro.schemaless_reader(stream, schema.frame, reader.frame if reader else None)
    except Exception as error:  # fastavro raises whatever its reader stumbles on
        raise FrameError(f"{schema.name}: {_why(error)}") from error
    if stream.tell() != len(frame):
        raise FrameError(f"{schema.name}: {len(frame) - stream.tell()} bytes after the end of the array")
    _check_consecutive(events)
    _check_ints(schema, events)
    if problem := overlong(events):
        raise FrameError(f"{schema.name}: {problem}")
    return Frame(schema, events)


def identity(events: Sequence[Mapping[str, Any]]) -> FrameIdentity:
    """The identity of a frame of these events."""
    first = events[0]
    return FrameIdentity(first["gateway"], first["epoch"], first["seq"], len(events))


def _check_consecutive(events: Sequence[Mapping[str, Any]]) -> None:
    if not events:
        raise FrameError("holds no events")
    first = events[0]
    if any(name not in first for name in HEADER_NAMES[:3]):
        return
    gateway, epoch, seq = first["gateway"], first["epoch"], first["seq"]
    for position, event in enumerate(events):
        found = (event["gateway"], event["epoch"], event["seq"])
        if found != (gateway, epoch, seq + position):
            raise FrameError(f"event {position} is {found}, expected {(gateway, epoch, seq + position)}")


def _check_ints(schema: EventSchema, events: Sequence[Mapping[str, Any]]) -> None:
    """fastavro reads a 64-bit integer where the schema has one of 32: bytes that hold one are damaged."""
    for name in schema.ints:
        for position, event in enumerate(events):
            value = event.get(name)
            if isinstance(value, int) and not -(2**31) <= value < 2**31:
                raise FrameError(f"{schema.name}: event {position}: {name} is {value}, beyond 32 bits")


def _refuse_empty() -> bytes:
    raise SchemaError("a frame holds at least one event")


def _why(error: Exception) -> str:
    if isinstance(error, EOFError):
        # fastavro's own text names an object in memory.
        return "ends before its events do"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
