"""Event schemas: reading and checking them, and finding them again by fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import fastavro.schema
from fastavro.schema import SchemaParseException, UnknownType

from schemas.errors import FrameError, SchemaError
from schemas.fingerprint import fingerprint
from schemas.header import AGENT_FIELDS, HEADER_NAMES, check_header
from schemas.wellformed import check_wellformed

#: Schemas of events that come with the project; a channel may name them instead of a file.
SHIPPED = ("Reading", "Text", "Blob", "State", "Position")


@dataclass(frozen=True)
class EventSchema:
    """A checked event schema. Compared by the JSON it was read from."""

    text: str = field(repr=False)
    name: str
    #: Fingerprint, as on the wire, of the array of this record that a frame carries.
    fingerprint: bytes

    @cached_property
    def record(self) -> dict[str, Any]:
        """The record as plain JSON, not parsed."""
        loaded: dict[str, Any] = json.loads(self.text)
        return loaded

    @cached_property
    def parsed(self) -> Any:
        """The record as fastavro wants it."""
        return fastavro.schema.parse_schema(self.record)

    @cached_property
    def frame(self) -> Any:
        """The array of the record, parsed: what a frame's body holds."""
        return fastavro.schema.parse_schema({"type": "array", "items": self.record})

    @cached_property
    def tail(self) -> Any:
        """The fields that a driver's process encodes: all but the four the agent puts before them."""
        return fastavro.schema.parse_schema({**self.record, "fields": self.record["fields"][len(AGENT_FIELDS) :]})

    @cached_property
    def ints(self) -> tuple[str, ...]:
        """Names of the fields that are 32-bit integers, or null."""
        return tuple(field["name"] for field in self.record["fields"] if _is_int(field["type"]))

    @property
    def measurements(self) -> tuple[str, ...]:
        """Names of the fields after the header."""
        return tuple(field["name"] for field in self.record["fields"][len(HEADER_NAMES) :])


def _is_int(type_: Any) -> bool:
    branches = type_ if isinstance(type_, list) else [type_]
    kinds = [branch.get("type") if isinstance(branch, dict) else branch for branch in branches]
    return "int" in kinds and set(kinds) <= {"int", "null"}


def event_schema(source: str | dict[str, Any], *, origin: str = "schema") -> EventSchema:
    """Parse and check an event schema given as JSON text or as an object.

    ``origin`` (a file name, say) begins every error. Raises `SchemaError`.
    """
    if isinstance(source, str):
        try:
            record = json.loads(source)
        except json.JSONDecodeError as error:
            raise SchemaError(f"{origin}:{error.lineno}: not JSON: {error.msg}") from error
    else:
        record = source
    check_header(record, origin=origin)
    try:
        array = fastavro.schema.parse_schema({"type": "array", "items": record})
        name = str(fastavro.schema.fullname(record))
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SchemaError(f"{origin}: not an Avro schema: {error!r}") from error
    check_wellformed(record, origin=origin)
    return EventSchema(text=json.dumps(record, ensure_ascii=False), name=name, fingerprint=fingerprint(array))


def load_event_schema(path: Path | str) -> EventSchema:
    """Read a user's ``.avsc`` file. Raises `SchemaError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SchemaError(f"{path}: cannot be read: {reason}") from error
    return event_schema(text, origin=str(path))


def shipped_text(name: str) -> str:
    """JSON text of a schema that comes with the project, by its short name."""
    return resources.files("schemas").joinpath("avsc", f"{name}.avsc").read_text(encoding="utf-8")


def shipped(name: str) -> EventSchema:
    """An event schema that comes with the project, by its short name. Raises `SchemaError`."""
    if name not in SHIPPED:
        raise SchemaError(f"no shipped schema {name!r}", remedy="one of " + ", ".join(SHIPPED) + ", or a path to an .avsc file")
    return event_schema(shipped_text(name), origin=name)


class Schemas:
    """Event schemas by fingerprint."""

    def __init__(self, schemas: Iterable[EventSchema] = ()) -> None:
        self._by_fingerprint: dict[bytes, EventSchema] = {}
        for schema in schemas:
            self.add(schema)

    @classmethod
    def with_shipped(cls, more: Iterable[EventSchema] = ()) -> Schemas:
        """The shipped event schemas and ``more``."""
        return cls([*(shipped(name) for name in SHIPPED), *more])

    def add(self, schema: EventSchema) -> None:
        self._by_fingerprint[schema.fingerprint] = schema

    def __iter__(self) -> Iterator[EventSchema]:
        return iter(self._by_fingerprint.values())

    def __len__(self) -> int:
        return len(self._by_fingerprint)

    def get(self, fingerprint: bytes) -> EventSchema | None:
        return self._by_fingerprint.get(fingerprint)

    def __getitem__(self, fingerprint: bytes) -> EventSchema:
        """Raises `FrameError` for a fingerprint that is not known."""
        try:
            return self._by_fingerprint[fingerprint]
        except KeyError:
            raise FrameError(
                f"unknown schema fingerprint {fingerprint.hex()}", remedy="register the event schema it belongs to"
            ) from None
