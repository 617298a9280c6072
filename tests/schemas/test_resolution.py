"""Which schemas can read which: the rules one by one, and random pairs held against decoding for real."""

from __future__ import annotations

from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FrameError
from schemas.frame import decode_frame, encode_frame
from schemas.registry import EventSchema, Schemas, event_schema
from schemas.resolution import incompatibility
from tests.examples import examples
from tests.schemas.avro_types import event_schemas, schema_of, values
from tests.schemas.events import header

ENUM = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
INNER = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
LIST = {"type": "record", "name": "L", "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "L"]}]}


def schema(kind: Any, **more: Any) -> EventSchema:
    return schema_of([{"name": "value", "type": kind, **more}])


def readable(writer: EventSchema, reader: EventSchema, *events: dict[str, Any]) -> list[Any]:
    """The measurements of events written by one and read by the other."""
    frame = encode_frame(writer, [{**header(seq), **event} for seq, event in enumerate(events)])
    return [event["value"] for event in decode_frame(frame, Schemas([writer]), reader=reader).events]


@pytest.mark.parametrize(
    ("writer", "reader", "value"),
    [
        ("int", "long", 5),
        ("int", "float", 5),
        ("int", "double", 5),
        ("long", "float", 5),
        ("long", "double", 5),
        ("float", "double", 0.5),
        ("string", "bytes", "text"),
        ("bytes", "string", b"text"),
        ("int", ["null", "long"], 5),
        (["int", "long"], "double", 5),
        (["null", "int"], ["double", "null"], 5),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "double"}, [1, 2]),
        ({"type": "map", "values": "int"}, {"type": "map", "values": ["null", "long"]}, {"k": 1}),
        ({**ENUM, "symbols": ["a"]}, ENUM, "a"),
        ({**ENUM, "symbols": ["a", "c"]}, {**ENUM, "default": "b"}, "c"),
        (ENUM, {**ENUM, "name": "other.E"}, "a"),
        (ENUM, {**ENUM, "name": "F", "aliases": ["E"]}, "a"),
        (INNER, {**INNER, "fields": [{"name": "y", "type": "int", "default": 3}]}, {"x": 1}),
        (INNER, {**INNER, "fields": [{"name": "y", "aliases": ["x"], "type": "long"}]}, {"x": 1}),
        (LIST, LIST, {"v": 1, "next": {"v": 2, "next": None}}),
        ({"type": "long", "logicalType": "timestamp-micros"}, "long", 5),
    ],
)
def test_what_the_rules_allow_is_allowed_and_decodes(writer: Any, reader: Any, value: Any) -> None:
    assert incompatibility(schema(writer), schema(reader)) is None
    assert len(readable(schema(writer), schema(reader), {"value": value})) == 1


@pytest.mark.parametrize(
    ("writer", "reader", "reason"),
    [
        ("long", "int", "value: written as long, which cannot be read as int"),
        ("double", "float", "value: written as double, which cannot be read as float"),
        ("string", "double", "value: written as string"),
        ("double", ["null", "long"], "value: written as double, which no branch of [null, long] can read"),
        (["null", "double"], "double", "value: written as null, which cannot be read as double"),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, "value[]: written as long"),
        ({"type": "map", "values": "long"}, {"type": "map", "values": "int"}, "value{}: written as long"),
        ({"type": "array", "items": "int"}, "int", "value: written as array"),
        (ENUM, {**ENUM, "symbols": ["a"]}, "value: the symbol 'b' may be written"),
        (ENUM, {**ENUM, "name": "F"}, "value: written as enum E, read as enum F: neither the name nor an alias"),
        (
            {"type": "fixed", "name": "F", "size": 2},
            {"type": "fixed", "name": "F", "size": 3},
            "value: written as fixed of 2 bytes",
        ),
        (INNER, {**INNER, "fields": [{"name": "y", "type": "int"}]}, "value.y: not written, and the reader has no default"),
        (INNER, {**INNER, "fields": [{"name": "x", "type": "string"}]}, "value.x: written as int"),
        (LIST, {**LIST, "fields": [LIST["fields"][0], {"name": "next", "type": "L"}]}, "value.next: written as null"),
    ],
)
def test_what_the_rules_forbid_is_refused_with_the_path_and_the_reason(writer: Any, reader: Any, reason: str) -> None:
    found = incompatibility(schema(writer), schema(reader))
    assert found is not None
    assert found.startswith(reason)


def test_a_measurement_may_be_added_with_a_default_and_taken_away_but_not_added_without() -> None:
    old = schema("double")
    new = schema_of([{"name": "value", "type": "double"}, {"name": "unit", "type": "string", "default": "K"}])
    bare = schema_of([{"name": "value", "type": "double"}, {"name": "unit", "type": "string"}])
    assert incompatibility(old, new) is None
    assert incompatibility(new, old) is None
    assert incompatibility(bare, old) is None
    assert incompatibility(old, bare) == "unit: not written, and the reader has no default for it"
    frame = encode_frame(old, [{**header(0), "value": 1.0}])
    assert decode_frame(frame, Schemas([old]), reader=new).events[0]["unit"] == "K"


def test_records_of_other_names_are_refused_unless_an_alias_says_they_are_the_same() -> None:
    writer = schema_of([{"name": "value", "type": "double"}], "Old")
    reader = schema_of([{"name": "value", "type": "double"}], "New")
    found = incompatibility(writer, reader)
    assert found is not None
    assert "neither the name nor an alias is the same" in found
    renamed = event_schema({**reader.record, "aliases": ["Old"]})
    assert incompatibility(writer, renamed) is None
    frame = encode_frame(writer, [{**header(0), "value": 1.0}])
    assert decode_frame(frame, Schemas([writer]), reader=renamed).events[0]["value"] == 1.0


def test_a_failed_branch_leaves_nothing_behind_that_makes_another_fit() -> None:
    # Within the first branch B fits only because A was assumed to; A then fails for its other field.
    def pair(last: str) -> dict[str, Any]:
        b = {"type": "record", "name": "B", "fields": [{"name": "a", "type": ["null", "A"]}]}
        return {"type": "record", "name": "A", "fields": [{"name": "b", "type": b}, {"name": "last", "type": last}]}

    writer = schema_of([{"name": "value", "type": pair("string")}, {"name": "again", "type": "B"}])
    reader = schema_of([{"name": "value", "type": ["null", pair("int")], "default": None}, {"name": "again", "type": "B"}])
    assert incompatibility(writer, reader) is not None


@given(event_schemas())
def test_every_schema_reads_what_it_wrote(found: EventSchema) -> None:
    assert incompatibility(found, found) is None


@examples(150)
@given(event_schemas(), event_schemas(), st.data())
def test_what_is_called_compatible_is_decoded_by_fastavro(writer: EventSchema, reader: EventSchema, data: st.DataObject) -> None:
    events = data.draw(st.lists(values({"type": "record", "fields": writer.record["fields"][7:]}), min_size=1, max_size=3))
    frame = encode_frame(writer, [{**header(seq), **event} for seq, event in enumerate(events)])
    if incompatibility(writer, reader) is None:
        assert len(decode_frame(frame, Schemas([writer]), reader=reader).events) == len(events)


@examples(150)
@given(event_schemas(), event_schemas())
def test_it_says_what_the_reference_implementation_says(writer: EventSchema, reader: EventSchema) -> None:
    checker = ReaderWriterCompatibilityChecker()
    found = checker.get_compatibility(avro.schema.parse(reader.text), avro.schema.parse(writer.text))
    assert (incompatibility(writer, reader) is None) == (found.compatibility is SchemaCompatibilityType.compatible)


@pytest.mark.parametrize("shape", ["plain", "array", "map", "union"])
def test_of_all_pairs_of_primitives_just_those_called_compatible_decode(shape: str) -> None:
    example = {"null": None, "boolean": True, "int": 1, "long": 2, "float": 0.5, "double": 0.25, "bytes": b"b", "string": "s"}
    for written, value in example.items():
        for read in example:
            wrap: dict[str, tuple[Any, Any, Any]] = {
                "plain": (written, read, value),
                "array": ({"type": "array", "items": written}, {"type": "array", "items": read}, [value]),
                "map": ({"type": "map", "values": written}, {"type": "map", "values": read}, {"k": value}),
                "union": ([written], [read], value),
            }
            writer, reader, wrapped = schema(wrap[shape][0]), schema(wrap[shape][1]), wrap[shape][2]
            try:
                readable(writer, reader, {"value": wrapped})
                decodes = True
            except FrameError:
                decodes = False
            assert decodes == (incompatibility(writer, reader) is None), (written, read)
