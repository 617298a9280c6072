"""The header every event schema begins with, and the check that it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from schemas.errors import SchemaError

_TIMESTAMP: Final = {"type": "long", "logicalType": "timestamp-micros"}

#: Name and Avro type of the header fields, in the order they are encoded.
HEADER: Final[tuple[tuple[str, Any], ...]] = (
    ("gateway", "string"),
    ("epoch", "long"),
    ("seq", "long"),
    ("gateway_time", _TIMESTAMP),
    ("device", "string"),
    ("channel", "string"),
    ("event_time", _TIMESTAMP),
)

#: Bytes in UTF-8 that each of the names in a header may have: stores keep them in keys, of which some hold 2,700 bytes.
MAX_NAME_BYTES: Final = 255
_NAMES: Final = ("gateway", "device", "channel")

HEADER_NAMES: Final = tuple(name for name, _ in HEADER)

#: The agent writes these before what the driver's process has encoded.
AGENT_FIELDS: Final = HEADER_NAMES[:4]


def overlong(events: Iterable[Mapping[str, Any]]) -> str:
    """What is wrong with the names of ``events``; empty when none is longer than `MAX_NAME_BYTES`."""
    for event in events:
        for name in _NAMES:
            value = event.get(name)
            # Characters take four bytes at most: most names need not be encoded to be known short.
            if isinstance(value, str) and 4 * len(value) > MAX_NAME_BYTES:
                size = len(value.encode(errors="surrogatepass"))
                if size > MAX_NAME_BYTES:
                    return f"the name of its {name} has {size} bytes, {MAX_NAME_BYTES} are the most"
    return ""


def check_header(record: object, *, origin: str) -> None:
    """Raise `SchemaError`, naming ``origin``, unless ``record`` is an Avro record that begins with the header."""
    if not isinstance(record, dict) or record.get("type") != "record":
        raise SchemaError(
            f"{origin}: an event schema is an Avro record, this is {_describe(record)}",
            remedy='start it with {"type": "record", "name": …, "fields": […]}',
        )
    fields = record.get("fields")
    if not isinstance(fields, list):
        raise SchemaError(f"{origin}: the record has no list of fields", remedy='add "fields": […]')
    for position, (name, expected) in enumerate(HEADER):
        found = fields[position] if position < len(fields) else None
        if not isinstance(found, dict) or found.get("name") != name or not _same_type(found.get("type"), expected):
            raise SchemaError(
                f"{origin}: field {position + 1} must be {name!r} of type {expected}, found {_describe(found)}",
                remedy="begin the fields with the header: " + ", ".join(HEADER_NAMES),
            )


def _same_type(found: object, expected: object) -> bool:
    if isinstance(expected, str):
        return found == expected or (isinstance(found, dict) and found.get("type") == expected)
    return (
        isinstance(found, dict)
        and isinstance(expected, dict)
        and found.get("type") == expected["type"]
        and found.get("logicalType") == expected["logicalType"]
    )


def _describe(found: object) -> str:
    if found is None:
        return "nothing"
    if isinstance(found, dict) and "name" in found:
        return f"{found['name']!r} of type {found.get('type')}"
    return repr(found)[:80]
