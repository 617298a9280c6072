"""Encoding events in the child: quickly for flat schemas, by fastavro for the others, and strictly for both.

The bytes are those of `schemas.frame.encode_tail`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from schemas.errors import SchemaError
from schemas.frame import encode_tail
from schemas.header import HEADER_NAMES, overlong
from schemas.registry import EventSchema
from schemas.varint import encode_long, encode_string

#: Device, event time in µs, fields → the encoded event.
Encoder = Callable[[str, int, Mapping[str, Any]], bytes]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
#: Doubled times from 1978 to 3111 take eight groups of seven bits.
_EIGHT_GROUPS: Final = range(1 << 49, 1 << 56)
_MAX_DEVICES: Final = 10_000
_DOUBLE: Final = struct.Struct("<d").pack
_FLOAT: Final = struct.Struct("<f").pack


def microseconds(time: datetime | int) -> int:
    """µs since 1970, UTC. Raises `SchemaError` for a datetime without a time zone, and outside the years 1 to 9999."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise SchemaError(f"event_time {time.isoformat()} has no time zone", remedy="give an aware datetime or µs since 1970")
        time = (time - _EPOCH) // _MICROSECOND  # outside these years too, with a zone at their ends
    elif not isinstance(time, int) or isinstance(time, bool):
        raise SchemaError(f"event_time {time!r} is no time", remedy="give an aware datetime or µs since 1970")
    # Avro's readers make datetimes of times: one that is none would make its whole frame unreadable.
    if not _EARLIEST <= time <= _LATEST:
        raise SchemaError(f"event_time {time} is outside the years 1 to 9999", remedy="it counts µs since 1970")
    return time


def event_encoder(schema: EventSchema, channel: str) -> Encoder:
    """An encoder for the events of a channel. It raises `SchemaError`, naming the fields that do not fit."""
    fields = schema.record["fields"][len(HEADER_NAMES) :]
    expected = {field["name"] for field in fields}
    required = {field["name"] for field in fields if "default" not in field}
    packers = [(field["name"], _PACKERS.get(field["type"]) if isinstance(field["type"], str) else None) for field in fields]
    flat = [(name, pack) for name, pack in packers if pack is not None]
    encode_flat = len(flat) == len(packers)
    only, pack_only = flat[0] if len(flat) == 1 else ("", None)
    end = encode_string(channel)
    heads: dict[str, bytes] = {}

    def encode(device: str, time: int, values: Mapping[str, Any]) -> bytes:
        if values.keys() != expected:
            _check_names(schema, channel, set(values), expected, required)
            _check_device(device, channel)
            return _encode_slowly(schema, device, channel, time, values)
        if not encode_flat:
            _check_device(device, channel)
            return _encode_slowly(schema, device, channel, time, values)
        head = heads.get(device) if isinstance(device, str) else None
        if head is None:
            _check_device(device, channel)
            if len(heads) >= _MAX_DEVICES:
                heads.clear()
            head = heads[device] = encode_string(device) + end
        number = time << 1
        if number in _EIGHT_GROUPS:
            stamp = bytes(
                (
                    number & 127 | 128,
                    number >> 7 & 127 | 128,
                    number >> 14 & 127 | 128,
                    number >> 21 & 127 | 128,
                    number >> 28 & 127 | 128,
                    number >> 35 & 127 | 128,
                    number >> 42 & 127 | 128,
                    number >> 49,
                )
            )
        else:
            stamp = encode_long(time)
        try:
            if pack_only is not None:
                return head + stamp + pack_only(values[only])
            return head + stamp + b"".join([pack(values[name]) for name, pack in flat])
        except (struct.error, TypeError, ValueError, AttributeError, OverflowError):
            raise _misfit(schema, channel, flat, values) from None

    return encode


def _check_device(device: object, channel: str) -> None:
    if not isinstance(device, str) or not device or not _is_text(device):
        raise SchemaError(f"channel {channel!r}: {device!r} is no name of a device")
    if problem := overlong([{"device": device, "channel": channel}]):
        raise SchemaError(f"channel {channel!r}: {problem}")


def _is_text(name: str) -> bool:
    """Whether there is UTF-8 for it: a name that was read with surrogate escapes has none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_slowly(schema: EventSchema, device: str, channel: str, time: int, values: Mapping[str, Any]) -> bytes:
    defaults = {field["name"]: field["default"] for field in schema.record["fields"] if "default" in field}
    try:
        return encode_tail(schema, {**defaults, "device": device, "channel": channel, "event_time": time, **values})
    except SchemaError as error:
        raise SchemaError(f"channel {channel!r}: {error.message}", remedy=error.remedy) from None


def _check_names(schema: EventSchema, channel: str, found: set[str], expected: set[str], required: set[str]) -> None:
    if missing := required - found:
        problem = "lacks " + ", ".join(sorted(missing))
    elif unknown := found - expected:
        problem = "has unknown fields: " + ", ".join(sorted(unknown))
    else:
        return
    raise SchemaError(
        f"channel {channel!r}: an event of {schema.name} {problem}", remedy="its fields are: " + ", ".join(schema.measurements)
    )


def _misfit(
    schema: EventSchema, channel: str, flat: list[tuple[str, Callable[[Any], bytes]]], values: Mapping[str, Any]
) -> SchemaError:
    for name, pack in flat:
        try:
            pack(values[name])
        except (struct.error, TypeError, ValueError, AttributeError, OverflowError):
            kind = next(field["type"] for field in schema.record["fields"] if field["name"] == name)
            return SchemaError(f"channel {channel!r}: {name} = {values[name]!r} is no {kind} of {schema.name}")
    return SchemaError(f"channel {channel!r}: an event does not fit {schema.name}")


def _pack_int(value: Any) -> bytes:
    if type(value) is not int or not -(1 << 31) <= value < 1 << 31:
        raise TypeError
    return encode_long(value)


def _pack_long(value: Any) -> bytes:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise TypeError
    return encode_long(value)


def _pack_double(value: Any) -> bytes:
    if type(value) is bool:
        raise TypeError
    return _DOUBLE(value)


def _pack_float(value: Any) -> bytes:
    if type(value) is bool:
        raise TypeError
    return _FLOAT(value)


def _pack_boolean(value: Any) -> bytes:
    if type(value) is not bool:
        raise TypeError
    return b"\1" if value else b"\0"


def _pack_string(value: Any) -> bytes:
    return encode_string(value)


def _pack_bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError
    return encode_long(len(value)) + bytes(value)


_PACKERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "int": _pack_int,
    "long": _pack_long,
    "double": _pack_double,
    "float": _pack_float,
    "boolean": _pack_boolean,
    "string": _pack_string,
    "bytes": _pack_bytes,
}
