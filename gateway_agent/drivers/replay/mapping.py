"""A row of a recording into the events it stands for."""

from __future__ import annotations

import difflib
import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway_agent.drivers.replay.settings import ReplaySettings
from gateway_agent.drivers.replay.times import TimeReader, time_reader
from gateway_agent.drivers.replay.values import ValueReader, shown, value_reader
from schemas.errors import ConfigurationError, SchemaError
from schemas.registry import EventSchema, load_event_schema, shipped

#: What else than a comma separates cells in files that are called CSV.
_DELIMITERS: Final = ";\t|,"

#: Raises LookupError when the row has no such cell.
Cell = Callable[[Any], Any]


class Reading(NamedTuple):
    """What a row says on one channel; ``problem`` says why it says nothing."""

    channel: str
    fields: Mapping[str, Any]
    problem: str = ""


class _Field(NamedTuple):
    name: str
    column: str
    cell: Cell
    read: ValueReader


@dataclass(frozen=True, slots=True)
class RowMapping:
    """How rows are understood. Its methods take the cells of one row."""

    time_cell: Cell
    read_time: TimeReader
    device_parts: tuple[str | Cell, ...]
    channels: tuple[tuple[str, tuple[_Field, ...]], ...]
    #: How many columns the header names; None for objects, which have no header.
    width: int | None = None

    def time(self, cells: Any) -> int:
        """The row's time in µs since 1970, UTC. Raises ValueError, also for a row that is not to be believed at all."""
        # A cell too many tells that those before it may stand in each other's places: 45,93 meant as 45.93.
        if self.width is not None and len(cells) > self.width and any(map(str.strip, cells[self.width :])):
            raise ValueError(f"{len(cells)} cells, the header names {self.width}")
        try:
            cell = self.time_cell(cells)
        except LookupError:
            raise ValueError("the row has no cell for its time") from None
        return self.read_time(cell)

    def device(self, cells: Any) -> str:
        """Raises ValueError when the row does not name one."""
        parts = []
        for part in self.device_parts:
            if isinstance(part, str):
                parts.append(part)
                continue
            try:
                cell = part(cells)
            except LookupError:
                raise ValueError("the row has no cell for its device") from None
            if isinstance(cell, (bool, dict, list)):
                raise ValueError(f"{shown(cell)} names no device")  # noqa: TRY004 (one error for all cells)
            text = "" if cell is None else str(cell).strip()
            if not text:
                raise ValueError("the cell for its device is empty")
            parts.append(text)
        return "".join(parts)

    def readings(self, cells: Any) -> list[Reading]:
        found = []
        for channel, fields in self.channels:
            values = {}
            problem = ""
            for name, column, cell, read in fields:
                try:
                    values[name] = read(cell(cells))
                except LookupError:
                    problem = f"column {column!r}: the row has no such cell"
                    break
                except ValueError as error:
                    problem = f"column {column!r}: {error}"
                    break
            found.append(Reading(channel, values, problem))
        return found


def mapping(settings: ReplaySettings, schemas: Mapping[str, EventSchema], header: Sequence[str] | None) -> RowMapping:
    """How rows are understood by ``settings``; ``header`` names the columns of CSV, None stands for objects.

    Raises `ConfigurationError` for a column that is not there.
    """
    assert settings.time is not None  # settings are checked

    def cell(column: str, field: str) -> Cell:
        return _cell(column, header, where=field)

    channels = []
    for channel, columns in settings.channels.items():
        readers = field_readers(channel, columns, schemas[channel])
        fields = [
            _Field(name, columns[name], cell(columns[name], f"channels.{channel}.{name}"), readers[name]) for name in readers
        ]
        channels.append((channel, tuple(fields)))
    parts: list[str | Cell] = []
    for text, column in device_parts(settings.device):
        if text:
            parts.append(text)
        if column:
            parts.append(cell(column, "device"))
    return RowMapping(
        cell(settings.time.column, "time.column"),
        time_reader(settings.time),
        tuple(parts),
        tuple(channels),
        width=None if header is None else len(header),
    )


def device_parts(template: str) -> list[tuple[str, str]]:
    """Texts, each with the column that follows it, of a template such as ``"mote-{mote_id}"``. Raises `ConfigurationError`."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigurationError(f"device: {template!r}: {error}", remedy='write a column in braces: "mote-{mote_id}"') from error
    for _, column, form, conversion in parsed:
        if column == "" or form or conversion:
            raise ConfigurationError(
                f"device: {template!r}: braces hold something else than a column", remedy='write "mote-{mote_id}"'
            )
    return [(text, column or "") for text, column, _, _ in parsed]


def schema_of(channel: str, columns: Mapping[str, str]) -> EventSchema:
    """The event schema of a channel. Raises `ConfigurationError`."""
    name = columns.get("schema", "Reading")
    try:
        return load_event_schema(Path(name)) if name.endswith(".avsc") else shipped(name)
    except SchemaError as error:
        raise ConfigurationError(f"channels.{channel}.schema: {error.message}", remedy=error.remedy) from error


def field_readers(channel: str, columns: Mapping[str, str], schema: EventSchema) -> dict[str, ValueReader]:
    """How the cells of each mapped field are read. Raises `ConfigurationError` for fields the schema does not have, or lacks."""
    fields = {field["name"]: field for field in schema.record["fields"] if field["name"] in schema.measurements}
    readers = {}
    for name in columns.keys() - {"schema"}:
        if name not in fields:
            raise ConfigurationError(
                f"channels.{channel}.{name}: {schema.name} has no such field; {_nearest(name, list(fields))}",
                remedy="name a field of the schema, or another schema",
            )
        reader = value_reader(fields[name]["type"])
        if reader is None:
            raise ConfigurationError(
                f"channels.{channel}.{name}: a cell of text cannot hold a {fields[name]['type']}", remedy="use another schema"
            )
        readers[name] = reader
    for name, field in fields.items():
        if name not in readers and "default" not in field:
            raise ConfigurationError(
                f"channels.{channel}: no column for the field {name!r} of {schema.name}", remedy=f'add {name} = "COLUMN"'
            )
    return {name: readers[name] for name in fields if name in readers}


def _cell(column: str, header: Sequence[str] | None, *, where: str) -> Cell:
    if header is None:
        return lambda cells: cells[column]
    if column not in header:
        raise ConfigurationError(
            f"{where}: the recording has no column {column!r}; {_nearest(column, header)}", remedy=_other_delimiter(header)
        )
    if header.count(column) > 1:
        raise ConfigurationError(
            f"{where}: the recording has {header.count(column)} columns {column!r}", remedy="give each a name of its own"
        )
    index = header.index(column)
    return lambda cells: cells[index]


def _other_delimiter(header: Sequence[str]) -> str:
    """What to do about a column that is not there: a header of one name often is several, separated otherwise."""
    found = next((mark for mark in _DELIMITERS if mark in header[0]), "") if len(header) == 1 else ""
    return f"is it separated by delimiter = {json.dumps(found)}?" if found else "name a column of its first line"


def _nearest(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "it has: " + ", ".join(valid)
