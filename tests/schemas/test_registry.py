"""Event schemas: users' files checked by the header rule, shipped ones, and finding them by fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import FrameError, SchemaError
from schemas.frame import decode_frame, encode_frame
from schemas.header import HEADER, HEADER_NAMES
from schemas.registry import SHIPPED, Schemas, event_schema, load_event_schema, shipped
from tests.schemas.avro_types import schema_of
from tests.schemas.events import header

HEADER_FIELDS: list[dict[str, Any]] = [{"name": name, "type": kind} for name, kind in HEADER]
VALUE = {"name": "value", "type": "double"}


def record(fields: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Mine", "fields": fields, **more}


def test_a_users_file_with_several_measurements_is_read_and_carries_events(tmp_path: Path) -> None:
    kinds = [{"name": "t", "type": "double"}, {"name": "h", "type": ["null", "double"]}, {"name": "raw", "type": "bytes"}]
    path = tmp_path / "climate.avsc"
    path.write_text(json.dumps(record([*HEADER_FIELDS, *kinds], namespace="plant")))
    schema = load_event_schema(path)
    assert (schema.name, schema.measurements) == ("plant.Mine", ("t", "h", "raw"))
    events = [{**header(0), "t": 20.5, "h": None, "raw": b"\0"}, {**header(1), "t": 21.0, "h": 0.4, "raw": b""}]
    assert decode_frame(encode_frame(schema, events), Schemas([schema])).events == events


@pytest.mark.parametrize("position", range(len(HEADER_NAMES)))
def test_a_missing_header_field_is_named(position: int) -> None:
    fields = HEADER_FIELDS[:position] + HEADER_FIELDS[position + 1 :] + [VALUE]
    with pytest.raises(SchemaError, match=f"mine.avsc: field {position + 1} must be '{HEADER_NAMES[position]}'") as caught:
        event_schema(record(fields), origin="mine.avsc")
    assert ", ".join(HEADER_NAMES) in caught.value.remedy


@pytest.mark.parametrize(
    ("position", "kind"),
    [
        (0, "bytes"),
        (1, "int"),
        (2, ["null", "long"]),
        (3, "long"),
        (3, {"type": "long", "logicalType": "timestamp-millis"}),
        (6, {"type": "int", "logicalType": "timestamp-micros"}),
        (6, {"type": "long"}),
    ],
)
def test_a_header_field_of_another_type_is_named(position: int, kind: Any) -> None:
    fields = [*HEADER_FIELDS, VALUE]
    fields[position] = {"name": HEADER_NAMES[position], "type": kind}
    with pytest.raises(SchemaError, match=f"field {position + 1} must be '{HEADER_NAMES[position]}'"):
        event_schema(record(fields))


def test_header_types_may_be_written_in_their_long_form() -> None:
    fields = [{"name": "gateway", "type": {"type": "string"}}, *HEADER_FIELDS[1:], VALUE]
    assert event_schema(record(fields)).fingerprint == event_schema(record([*HEADER_FIELDS, VALUE])).fingerprint


@pytest.mark.parametrize(
    "source",
    [
        '"string"',
        "[]",
        "7",
        "null",
        '{"type": "enum", "name": "E", "symbols": ["a"]}',
        '{"type": "record", "name": "R"}',
        '{"type": "record", "name": "R", "fields": {}}',
        '{"type": "record", "name": "R", "fields": ["gateway"]}',
        json.dumps({"type": "record", "fields": HEADER_FIELDS}),
        json.dumps(record([*HEADER_FIELDS, {"name": "value", "type": "dubble"}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "value"}])),
        json.dumps(record([*HEADER_FIELDS, {"type": "double"}])),
        json.dumps(record([*HEADER_FIELDS, "value"])),
        json.dumps(record([*HEADER_FIELDS, {"name": "value", "type": {"type": "fixed", "name": "F"}}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "value", "type": {"type": "array"}}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "not a name", "type": "double"}])),
        json.dumps(record([*HEADER_FIELDS, VALUE, VALUE])),
        json.dumps(record([*HEADER_FIELDS, {"name": "gateway", "type": "string"}])),
        json.dumps(record([*HEADER_FIELDS, VALUE], name="not a name")),
        json.dumps(record([*HEADER_FIELDS, {"name": "v", "type": {"type": "enum", "name": "7", "symbols": ["a"]}}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "v", "type": ["null", record([VALUE, VALUE], name="Inner")]}])),
        json.dumps(record([*HEADER_FIELDS, {**VALUE, "default": "text"}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "v", "type": "int", "default": 2**31}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "v", "type": "long", "default": True}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "v", "type": ["null", "int"], "default": 7}])),
        json.dumps(record([*HEADER_FIELDS, {"name": "v", "type": {"type": "array", "items": "int"}, "default": ["a"]}])),
    ],
)
def test_what_is_no_event_schema_is_refused_with_its_origin(source: str) -> None:
    with pytest.raises(SchemaError) as caught:
        event_schema(source, origin="mine.avsc")
    assert caught.value.message.startswith("mine.avsc")


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("double", 1),
        ("bytes", "\u00ff\u0000"),
        (["null", "int"], None),
        (["int", "null"], 7),
        ({"type": "map", "values": "long"}, {"a": 1}),
        ({"type": "enum", "name": "E", "symbols": ["on"]}, "on"),
        ({"type": "long", "logicalType": "timestamp-micros"}, 0),
    ],
)
def test_defaults_that_fit_their_type_are_taken(kind: Any, default: Any) -> None:
    assert event_schema(record([*HEADER_FIELDS, {"name": "v", "type": kind, "default": default}])).measurements == ("v",)


def test_what_is_not_json_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.avsc"
    path.write_text('{"type": "record",\n "name": "R",\n "fields": [}')
    with pytest.raises(SchemaError, match=r"broken\.avsc:3: not JSON"):
        load_event_schema(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match=r"broken\.avsc"):
        load_event_schema(path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"absent\.avsc: cannot be read: No such file"):
        load_event_schema(tmp_path / "absent.avsc")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_schemas_keep_the_header_rule_and_document_each_field(name: str) -> None:
    schema = shipped(name)
    assert schema.name == f"iotcloud.{name}"
    assert schema.measurements
    assert all(field["doc"] for field in schema.record["fields"])


def test_an_unknown_shipped_schema_is_refused_with_those_there_are() -> None:
    with pytest.raises(SchemaError) as caught:
        shipped("Raeding")
    assert all(name in caught.value.remedy for name in SHIPPED)


def test_schemas_are_found_by_fingerprint() -> None:
    mine = schema_of([{"name": "m", "type": "int"}], "Mine")
    schemas = Schemas.with_shipped([mine])
    assert len(schemas) == len(SHIPPED) + 1
    assert schemas[mine.fingerprint] is schemas.get(mine.fingerprint) is mine
    assert {schema.name for schema in schemas} == {*(f"iotcloud.{name}" for name in SHIPPED), "Mine"}
    assert schemas.get(bytes(8)) is None
    with pytest.raises(FrameError, match="unknown schema fingerprint 0000000000000000"):
        schemas[bytes(8)]
