"""Whether one schema can read what another has written (Avro 1.12 specification, "Schema Resolution").

Asked where a schema is registered, so that an incompatible one is refused there and not where it is read. Only
what can never be read counts: a writer's union, say, must fit in every branch, because any of them may come.
Logical types are left out, as the specification does: they say how a value is understood, not whether it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.registry import EventSchema

#: What a value of the first type may be read as, beside its own type.
_PROMOTIONS: Final[Mapping[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_NAMED: Final = frozenset({"record", "enum", "fixed"})
_PRIMITIVE: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def incompatibility(writer: EventSchema, reader: EventSchema) -> str | None:
    """Why ``reader`` cannot read frames of ``writer``, with the path of the field; None when it can."""
    written, read = _Names(writer.record), _Names(reader.record)
    return _Comparison(written, read).types(written.root, read.root, "")


class _Names:
    """A schema with its named types by full name."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._types: dict[str, dict[str, Any]] = {}
        self.root = self._resolve(schema, "")

    def _resolve(self, schema: Any, namespace: str) -> Any:
        """``schema`` with full names, and with named types that were defined before as their names."""
        if isinstance(schema, str):
            return schema if schema in _PRIMITIVE else _full(schema, namespace)
        if isinstance(schema, list):
            return [self._resolve(branch, namespace) for branch in schema]
        kind = schema["type"]
        if kind in _NAMED:
            name = _full(schema["name"], schema.get("namespace", namespace))
            inner = name.rpartition(".")[0]
            found = {**schema, "name": name, "aliases": [_full(alias, inner) for alias in schema.get("aliases", ())]}
            self._types[name] = found  # before its fields, which may name it
            if kind == "record":
                found["fields"] = [{**field, "type": self._resolve(field["type"], inner)} for field in schema["fields"]]
            return found
        if kind == "array":
            return {"type": "array", "items": self._resolve(schema["items"], namespace)}
        if kind == "map":
            return {"type": "map", "values": self._resolve(schema["values"], namespace)}
        return self._resolve(kind, namespace)

    def look_up(self, schema: Any) -> Any:
        """``schema`` itself, or the named type it names."""
        return self._types.get(schema, schema) if isinstance(schema, str) else schema


class _Comparison:
    """A writer's schema against a reader's. Pairs under way count as compatible, so that recursive types end."""

    def __init__(self, writer: _Names, reader: _Names) -> None:
        self.writer = writer
        self.reader = reader
        self._pairs: set[tuple[str, str]] = set()

    def types(self, writer: Any, reader: Any, path: str) -> str | None:
        """Why a value written as ``writer`` cannot be read as ``reader``."""
        writer, reader = self.writer.look_up(writer), self.reader.look_up(reader)
        if isinstance(writer, list):
            return next((why for branch in writer if (why := self.types(branch, reader, path))), None)
        if isinstance(reader, list):
            return self._some_branch(writer, reader, path)
        written, read = _kind(writer), _kind(reader)
        if written == read:
            return self._same_kind(written, writer, reader, path)
        if read in _PROMOTIONS.get(written, ()):
            return None
        return _at(path, f"written as {_show(writer)}, which cannot be read as {_show(reader)}")

    def _same_kind(self, kind: str, writer: Any, reader: Any, path: str) -> str | None:
        if kind in _NAMED:
            return self._named(writer, reader, path)
        if kind == "array":
            return self.types(writer["items"], reader["items"], f"{path}[]")
        if kind == "map":
            return self.types(writer["values"], reader["values"], f"{path}{{}}")
        return None

    def _some_branch(self, writer: Any, reader: Sequence[Any], path: str) -> str | None:
        """A reader's union needs one branch that fits; the first that does is the one that is taken."""
        reasons = []
        for branch in reader:
            if (why := self.types(writer, branch, path)) is None:
                return None
            reasons.append(why)
        if len(reasons) == 1:
            return reasons[0]
        return _at(path, f"written as {_show(writer)}, which no branch of {_show(reader)} can read")

    def _named(self, writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> str | None:
        if _short(writer["name"]) != _short(reader["name"]) and writer["name"] not in reader["aliases"]:
            return _at(path, f"written as {_show(writer)}, read as {_show(reader)}: neither the name nor an alias is the same")
        if writer["type"] == "fixed":
            return _sizes(writer, reader, path)
        if writer["type"] == "enum":
            return _symbols(writer, reader, path)
        pair = (writer["name"], reader["name"])
        if pair in self._pairs:
            return None
        before = frozenset(self._pairs)
        self._pairs.add(pair)
        why = self._fields(writer, reader, path)
        if why:
            self._pairs = set(before)  # what was found to fit while this pair was assumed to
        return why

    def _fields(self, writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> str | None:
        """Why a record cannot be read field by field. What the reader does not have is skipped."""
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            here = f"{path}.{field['name']}" if path else field["name"]
            names = (field["name"], *field.get("aliases", ()))
            source = next((written[name] for name in names if name in written), None)
            if source is not None:
                why = self.types(source["type"], field["type"], here)
            elif "default" in field:
                why = None
            else:
                why = _at(here, "not written, and the reader has no default for it")
            if why:
                return why
        return None


def _sizes(writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> str | None:
    if writer["size"] == reader["size"]:
        return None
    return _at(path, f"written as fixed of {writer['size']} bytes, read as fixed of {reader['size']}")


def _symbols(writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> str | None:
    unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if not unknown or "default" in reader:
        return None
    return _at(path, f"the symbol {unknown[0]!r} may be written, which the reader does not have, nor a default for it")


def _at(path: str, why: str) -> str:
    return f"{path}: {why}" if path else why


def _kind(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _show(schema: Any) -> str:
    if isinstance(schema, list):
        return "[" + ", ".join(_show(branch) for branch in schema) + "]"
    return f"{schema['type']} {schema['name']}" if isinstance(schema, dict) and "name" in schema else _kind(schema)
