"""Journal files of what is no frame: dead letters, and offsets the log no longer had."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from typing import Any, Final

import fastavro

_MICROS: Final = {"type": "long", "logicalType": "timestamp-micros"}

DEAD_LETTER_SCHEMA: Final = json.dumps(
    {
        "type": "record",
        "name": "DeadLetter",
        "namespace": "iotcloud.journal",
        "doc": "A record of the log that is no frame of a known schema.",
        "fields": [
            {"name": "offset", "type": "long", "doc": "its offset in the log"},
            {"name": "append_time", "type": _MICROS, "doc": "when the log took it"},
            {"name": "key", "type": "string", "doc": "its key in the log"},
            {"name": "reason", "type": "string", "doc": "why it could not be decoded"},
            {"name": "frame", "type": "bytes", "doc": "the record as it was"},
        ],
    }
)
LOST_SCHEMA: Final = json.dumps(
    {
        "type": "record",
        "name": "Lost",
        "namespace": "iotcloud.journal",
        "doc": "Offsets that the log no longer had when they were to be archived.",
        "fields": [
            {"name": "first", "type": "long", "doc": "first offset"},
            {"name": "next", "type": "long", "doc": "offset after the last"},
            {"name": "time", "type": _MICROS, "doc": "when it was found"},
            {"name": "reason", "type": "string"},
        ],
    }
)


def encode_letter(offset: int, append_time: int, key: str, reason: str, frame: bytes) -> bytes:
    """A dead letter as an item of its file. Times in µs since 1970, UTC."""
    return _encode(
        DEAD_LETTER_SCHEMA, {"offset": offset, "append_time": append_time, "key": key, "reason": reason, "frame": frame}
    )


def decode_letter(item: bytes) -> dict[str, Any]:
    """The inverse of `encode_letter`; the time is an aware datetime."""
    letter: Any = fastavro.schemaless_reader(io.BytesIO(item), _parsed(DEAD_LETTER_SCHEMA), None)
    return dict(letter)


def encode_lost(first: int, following: int, time: int, reason: str) -> bytes:
    return _encode(LOST_SCHEMA, {"first": first, "next": following, "time": time, "reason": reason})


def _encode(schema: str, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _parsed(schema), record)
    return out.getvalue()


@lru_cache(maxsize=4)
def _parsed(schema: str) -> Any:
    return fastavro.parse_schema(json.loads(schema))
