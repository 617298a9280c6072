"""Avro event schemas as columns: which fields, of which type, and how many bytes each value takes on the wire.

Columns carry raw Avro values: a logical type is what it is made of (a timestamp is its integer, a decimal its bytes). A field
that has no column type of its own (array, map, record, fixed, a union of several) is a column of JSON text, in which what is
no finite number is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import fastavro
import polars as pl

from schemas.header import HEADER_NAMES, MAX_NAME_BYTES
from schemas.registry import EventSchema
from schemas.varint import encode_long
from transforms.jsontext import json_text

HEADER_TYPES: Final[dict[str, pl.DataType]] = {
    "gateway": pl.String(),
    "epoch": pl.Int64(),
    "seq": pl.Int64(),
    "gateway_time": pl.Int64(),
    "device": pl.String(),
    "channel": pl.String(),
    "event_time": pl.Int64(),
}

_PRIMITIVES: Final[dict[str, pl.DataType]] = {
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "bytes": pl.Binary(),
}

#: Values of these, in their unit, that Python's datetime can hold: years 1 to 9999. Others are damage to the reference.
_DATETIME_MICROS: Final = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DATETIME_MILLIS: Final = (-62_135_596_800_000, 253_402_300_799_999)
_RANGES: Final = {
    ("long", "timestamp-micros"): _DATETIME_MICROS,
    ("long", "timestamp-millis"): _DATETIME_MILLIS,
    ("long", "local-timestamp-micros"): _DATETIME_MICROS,
    ("long", "local-timestamp-millis"): _DATETIME_MILLIS,
}
DATETIME_RANGE: Final = _DATETIME_MICROS
#: Bytes; its length precedes a text.
_LONGEST_NAME: Final = len(encode_long(MAX_NAME_BYTES)) + MAX_NAME_BYTES


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an event schema as a column."""

    name: str
    dtype: pl.DataType
    #: Avro primitive, or "json" for what has no column type.
    kind: str
    nullable: bool = False
    #: Least and greatest value the reference can read, where there is such a limit.
    bounds: tuple[int, int] | None = None
    #: Most bytes of an encoded value, where there is such a limit.
    longest: int | None = None
    #: Whether values can be decoded in columns at all.
    columnar: bool = True


def fields_of(schema: EventSchema) -> tuple[Field, ...]:
    """The columns of a schema: the header, then the measurements, in their order."""
    header = [
        Field(name, dtype, "string", longest=_LONGEST_NAME)
        if (dtype := HEADER_TYPES[name]) == pl.String
        else Field(name, dtype, "long", bounds=_header_bounds(name))
        for name in HEADER_NAMES
    ]
    return (*header, *(_field(field["name"], field["type"]) for field in schema.record["fields"][len(HEADER_NAMES) :]))


def column_types(schema: EventSchema) -> dict[str, pl.DataType]:
    return {field.name: field.dtype for field in fields_of(schema)}


def is_aggregated(dtype: pl.DataType) -> bool:
    """Whether measurements of this type are aggregated: numbers, and on-off states as 0 and 1."""
    return dtype.is_numeric() or dtype == pl.Boolean


def rows_of_frame(schema: EventSchema, body: Any) -> list[dict[str, Any]]:
    """Decode the body of a frame that the reference has accepted, with raw values. ``body`` is a stream at its start."""
    rows: Any = fastavro.schemaless_reader(body, _raw_frame(schema), None)
    texts = [field.name for field in fields_of(schema) if field.kind == "json"]
    for row in rows:
        for name in texts:
            row[name] = json_text(row[name], default=_as_json, sort_keys=True)
    return list(rows)


def raw_type(type_: Any) -> Any:
    """An Avro type without logical types."""
    if isinstance(type_, list):
        return [raw_type(branch) for branch in type_]
    if not isinstance(type_, dict):
        return type_
    kept = {key: value for key, value in type_.items() if key not in ("logicalType", "precision", "scale")}
    for key in ("items", "values"):
        if key in kept:
            kept[key] = raw_type(kept[key])
    if isinstance(kept.get("type"), (dict, list)):
        kept["type"] = raw_type(kept["type"])
    if "fields" in kept:
        kept["fields"] = [{**field, "type": raw_type(field["type"])} for field in kept["fields"]]
    return kept["type"] if set(kept) == {"type"} and kept["type"] in _PRIMITIVES else kept


def _field(name: str, type_: Any) -> Field:
    nullable = isinstance(type_, list) and len(type_) == 2 and "null" in type_
    if nullable:
        type_ = type_[1] if type_[0] == "null" else type_[0]
    primitive = type_["type"] if isinstance(type_, dict) else type_
    if not isinstance(primitive, str) or primitive not in _PRIMITIVES:
        return Field(name, pl.String(), "json", columnar=False)
    logical = type_.get("logicalType") if isinstance(type_, dict) else None
    bounds = _RANGES.get((primitive, str(logical)))
    return Field(name, _PRIMITIVES[primitive], primitive, nullable, bounds, columnar=logical is None or bounds is not None)


def _header_bounds(name: str) -> tuple[int, int] | None:
    return _DATETIME_MICROS if name in ("gateway_time", "event_time") else None


@lru_cache(maxsize=256)
def _raw_frame(schema: EventSchema) -> Any:
    return fastavro.parse_schema({"type": "array", "items": raw_type(schema.record)})


def _as_json(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
