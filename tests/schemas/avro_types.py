"""Random Avro types, values of them, and event schemas with fields of such types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from schemas.header import HEADER
from schemas.registry import EventSchema, event_schema

Type = Any
Draw = Callable[..., Any]

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
#: Few names, so that two random schemas often share one.
NAMES = ("First", "Second")
SYMBOLS = ("on", "off", "unknown")

floats = st.floats(width=32, allow_nan=False)
#: Values of each primitive that survive a round trip exactly.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": floats,
    "double": st.floats(allow_nan=False),
    # Bytes may be read as a string where they are one.
    "bytes": st.text(max_size=20).map(str.encode),
    "string": st.text(max_size=20),
}


@st.composite
def types(draw: Draw, depth: int = 2, names: frozenset[str] = frozenset(NAMES), union: bool = True) -> Type:
    """A type; each name is defined at most once within it."""
    kinds = ["primitive", "primitive", "primitive"]
    if depth:
        kinds += ["array", "map"] + (["union"] if union else []) + (["enum", "fixed", "record"] if names else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "primitive":
        return draw(st.sampled_from(PRIMITIVES))
    if kind == "array":
        return {"type": "array", "items": draw(types(depth - 1, names))}
    if kind == "map":
        return {"type": "map", "values": draw(types(depth - 1, names))}
    if kind == "union":
        branches = draw(st.lists(st.sampled_from(PRIMITIVES), min_size=1, max_size=3, unique=True))
        if names and draw(st.booleans()):
            branches.append(draw(named(depth - 1, names)))
        return branches
    return draw(named(depth - 1, names))


@st.composite
def named(draw: Draw, depth: int, names: frozenset[str]) -> Type:
    """An enum, a fixed or a record."""
    name = draw(st.sampled_from(sorted(names)))
    kind = draw(st.sampled_from(("enum", "fixed", "record")))
    found: dict[str, Any] = {"type": kind, "name": name}
    aliases = draw(st.lists(st.sampled_from(NAMES), max_size=1))
    if aliases and aliases != [name]:
        found["aliases"] = aliases
    if kind == "enum":
        found["symbols"] = draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))
        if draw(st.booleans()):
            found["default"] = found["symbols"][0]
    elif kind == "fixed":
        found["size"] = draw(st.integers(1, 2))
    else:
        fields = draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=3, unique=True))
        rest = names - {name}
        # Only the last field may define named types, so that no name is defined twice.
        found["fields"] = [
            draw(field(field_name, depth, rest if field_name == fields[-1] else frozenset())) for field_name in fields
        ]
    return found


@st.composite
def field(draw: Draw, name: str, depth: int, names: frozenset[str]) -> Type:
    kind = draw(types(max(0, depth), names))
    found: dict[str, Any] = {"name": name, "type": kind}
    simple = {"int": 1, "long": 2, "double": 0.5, "string": "s", "boolean": True, "null": None}
    first = kind[0] if isinstance(kind, list) else kind
    if isinstance(first, str) and first in simple and draw(st.booleans()):
        found["default"] = simple[first]
    return found


def values(schema: Type) -> st.SearchStrategy[Any]:
    """Values of a type, in the form fastavro writes; a branch of a union is told by (name, value)."""
    if isinstance(schema, list):
        return st.one_of(*(values(branch).map(lambda value, b=branch: (branch_name(b), value)) for branch in schema))
    if isinstance(schema, str):
        return VALUES[schema]
    match schema["type"]:
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=5), values(schema["values"]), max_size=3)
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case "record":
            return st.fixed_dictionaries({f["name"]: values(f["type"]) for f in schema["fields"]})
    raise AssertionError(schema)


def branch_name(branch: Type) -> str:
    return branch if isinstance(branch, str) else branch.get("name", branch["type"])


def schema_of(fields: list[Type], name: str = "Measured") -> EventSchema:
    """An event schema with the header and ``fields``."""
    header = [{"name": name, "type": kind} for name, kind in HEADER]
    return event_schema({"type": "record", "name": name, "fields": [*header, *fields]})


@st.composite
def event_schemas(draw: Draw) -> EventSchema:
    """An event schema with one or two measurement fields."""
    count = draw(st.integers(1, 2))
    return schema_of([draw(field(f"m{i}", 2, frozenset(NAMES) if i == 0 else frozenset())) for i in range(count)])
