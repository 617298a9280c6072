"""What the Avro 1.12 specification asks of a schema and fastavro lets pass: names, unique fields, defaults that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from schemas.errors import SchemaError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME: Final = re.compile(rf"{_NAME.pattern}(\.{_NAME.pattern})*")


def _integer(bits: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and -(1 << bits - 1) <= value < 1 << bits - 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _octets(value: Any) -> bool:
    return isinstance(value, str) and all(ord(character) < 256 for character in value)


_FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "int": _integer(32),
    "long": _integer(64),
    "float": _number,
    "double": _number,
    "string": lambda value: isinstance(value, str),
    "bytes": _octets,
    "fixed": _octets,
    "array": lambda value: isinstance(value, list),
    "map": lambda value: isinstance(value, dict),
    "record": lambda value: isinstance(value, dict),
}


def check_wellformed(schema: Any, *, origin: str) -> None:
    """Raise `SchemaError`, naming ``origin`` and the field, for the first thing that is wrong in a parsed schema."""
    if isinstance(schema, list):
        for branch in schema:
            check_wellformed(branch, origin=origin)
    elif isinstance(schema, dict):
        kind = schema.get("type")
        if kind in ("record", "enum", "fixed"):
            _check_name(schema.get("name"), _FULL_NAME, f"{origin}: a {kind}")
        if kind == "record":
            _check_fields(schema, origin)
        for inner in ("type", "items", "values"):
            if isinstance(schema.get(inner), (dict, list)):
                check_wellformed(schema[inner], origin=origin)


def _check_fields(record: Mapping[str, Any], origin: str) -> None:
    seen: set[str] = set()
    for field in record["fields"]:
        where = f"{origin}: field {field['name']!r} of {record['name']}"
        _check_name(field["name"], _NAME, f"{origin}: a field of {record['name']}")
        if field["name"] in seen:
            raise SchemaError(f"{where} is there twice", remedy="give it another name")
        seen.add(field["name"])
        if "default" in field and not _fits(field["default"], field["type"]):
            raise SchemaError(
                f"{where}: the default {field['default']!r} is not of its type",
                remedy="for a union it must be of the first branch",
            )
        check_wellformed(field["type"], origin=origin)


def _check_name(name: Any, form: re.Pattern[str], where: str) -> None:
    if not isinstance(name, str) or not form.fullmatch(name):
        raise SchemaError(f"{where} cannot be named {name!r}", remedy="letters, digits and '_', not a digit first")


def _fits(value: Any, schema: Any) -> bool:
    if isinstance(schema, list):
        return bool(schema) and _fits(value, schema[0])
    if isinstance(schema, dict):
        kind = schema["type"]
        if kind == "enum":
            return value in schema["symbols"]
        if kind == "array":
            return isinstance(value, list) and all(_fits(item, schema["items"]) for item in value)
        if kind == "map":
            return isinstance(value, dict) and all(_fits(item, schema["values"]) for item in value.values())
        if isinstance(kind, (dict, list)):
            return _fits(value, kind)
        schema = kind
    check = _FITS.get(schema)
    return check is None or check(value)  # a name of a type defined elsewhere: fastavro checks it when it is used
