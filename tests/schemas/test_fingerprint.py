"""Fingerprints against the specification, computed here a second time from its text."""

from __future__ import annotations

import json
import re
from typing import Any

import avro.schema
import pytest
from hypothesis import given

from schemas.fingerprint import fingerprint
from schemas.registry import SHIPPED, EventSchema, event_schema, shipped
from tests.schemas.avro_types import PRIMITIVES, event_schemas

EMPTY = 0xC15D213AA4D7A795


def crc_64_avro(data: bytes) -> int:
    """The algorithm as the Avro 1.12 specification gives it, bit by bit instead of by table."""
    found = EMPTY
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = (found >> 1) ^ (EMPTY if found & 1 else 0)
    return found


def canonical(schema: Any, namespace: str = "") -> str:
    """Parsing Canonical Form (Avro 1.12 specification), written from its rules."""
    if isinstance(schema, list):
        return "[" + ",".join(canonical(branch, namespace) for branch in schema) + "]"
    if isinstance(schema, str):
        return json.dumps(schema if schema in PRIMITIVES or "." in schema or not namespace else f"{namespace}.{schema}")
    kind = schema["type"]
    if kind in PRIMITIVES:
        return json.dumps(kind)
    parts = {}
    if "name" in schema:
        inner = schema.get("namespace", namespace)
        name = schema["name"] if "." in schema["name"] or not inner else f"{inner}.{schema['name']}"
        parts["name"], namespace = json.dumps(name), name.rpartition(".")[0]
    parts["type"] = json.dumps(kind)
    if kind == "record":
        fields = (f'{{"name":"{field["name"]}","type":{canonical(field["type"], namespace)}}}' for field in schema["fields"])
        parts["fields"] = "[" + ",".join(fields) + "]"
    elif kind == "enum":
        parts["symbols"] = json.dumps(schema["symbols"], separators=(",", ":"))
    elif kind == "fixed":
        parts["size"] = str(schema["size"])
    else:
        part = "items" if kind == "array" else "values"
        parts[part] = canonical(schema[part], namespace)
    return "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"


def little_endian(number: int) -> bytes:
    return number.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("null", 0x63DD24E7CC258F8A),
        ("boolean", 0x9F42FC78A4D4F764),
        ("int", 0x7275D51A3F395C8F),
        ("long", 0xD054E14493F41DB7),
        ("float", 0x4D7C02CB3EA8D790),
        ("double", 0x8E7535C032AB957E),
        ("bytes", 0x4FC016DAC3201965),
        ("string", 0x8F014872634503C7),
    ],
)
def test_fingerprints_of_primitives_are_the_known_ones(schema: str, expected: int) -> None:
    # The values published with Avro's own tests (share/test/data/schema-tests.txt).
    assert fingerprint(schema) == little_endian(expected) == little_endian(crc_64_avro(json.dumps(schema).encode()))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_frame_is_named_by_the_canonical_form_of_the_array_of_its_schema(name: str) -> None:
    assert shipped(name).fingerprint == little_endian(
        crc_64_avro(canonical({"type": "array", "items": shipped(name).record}).encode())
    )


@given(event_schemas())
def test_any_schema_has_the_fingerprint_of_its_canonical_form(schema: EventSchema) -> None:
    text = canonical({"type": "array", "items": schema.record})
    assert schema.fingerprint == little_endian(crc_64_avro(text.encode()))


@given(event_schemas())
def test_the_canonical_form_is_that_of_another_implementation(schema: EventSchema) -> None:
    # Which leaves logical types in their long form; the reference, in Java, does not.
    other = str(avro.schema.parse(schema.text).canonical_form)
    assert re.sub(r'\{"type":("[a-z]+")\}', r"\1", other) == canonical(schema.record)


def test_what_does_not_change_the_encoding_does_not_change_the_fingerprint() -> None:
    record = shipped("Reading").record

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key != "doc"}
        return [bare(item) for item in value] if isinstance(value, list) else value

    assert event_schema(bare(record)).fingerprint == shipped("Reading").fingerprint
    renamed = {**record, "fields": [*record["fields"][:-1], {"name": "other", "type": "double"}]}
    assert event_schema(renamed).fingerprint != shipped("Reading").fingerprint


def test_shipped_schemas_have_different_fingerprints() -> None:
    assert len({shipped(name).fingerprint for name in SHIPPED}) == len(SHIPPED)
