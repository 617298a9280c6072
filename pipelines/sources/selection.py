"""What a master says there is to read; and what it said last, for a job that starts again while the master is away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from master.client import Client, MasterUnavailable
from pipelines.sources.discovery import Source
from pipelines.whole_file import write_whole
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema, event_schema
from telemetry.logs import logger

MEMORY_FILE: Final = "selection.json"


class Remembered(msgspec.Struct, frozen=True):
    """An answer of a master: topics by the URL of their broker, and schemas as Avro JSON."""

    master: str
    selection: str
    topics: dict[str, tuple[str, ...]]
    schemas: tuple[str, ...]


def select(
    url: str, selection: str, token: str, *, state: Path | None = None
) -> tuple[tuple[Source, ...], tuple[EventSchema, ...]]:
    """Topics of the channels that ``selection`` chooses (all, when empty), and the schemas of their events.

    ``state`` is the job's directory, where the answer is kept: it is used when the master cannot be reached, and brokers
    that had topics the last time are read as well: what a channel published before it was moved to another broker is still
    there. Raises `IoTCloudError` when there is no answer, and when the master knows of nothing to read.
    """
    memory = state / MEMORY_FILE if state is not None else None
    before = _remembered(memory)
    if before is not None and (before.master, before.selection) != (url, selection):
        before = None
    try:
        found = _ask(url, selection, token)
    except MasterUnavailable as error:
        if before is None:
            raise
        logger("pipeline").warning("the master is away: reading what it said last", master=url, why=error.message)
        found = before
    if before is not None:
        found = msgspec.structs.replace(found, topics=_united(before.topics, found.topics))
    if not found.topics:
        raise ConfigurationError(
            f"the master at {url} knows no channel for --select {selection!r}",
            remedy="start the gateway first, or look at GET /api/v1/channels of the master",
        )
    if memory is not None:
        write_whole(memory, msgspec.json.encode(found))
    sources = tuple(Source(broker, topics) for broker, topics in found.topics.items())
    return sources, tuple(event_schema(json.loads(text), origin=f"the master at {url}") for text in found.schemas)


def _ask(url: str, selection: str, token: str) -> Remembered:
    with Client(url, token or None) as client:
        selected = client.select(selection)
    return Remembered(url, selection, selected.by_broker(), tuple(schema.text for schema in selected.schemas))


def _united(before: Mapping[str, tuple[str, ...]], now: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """All topics of all brokers, in the order they became known."""
    return {broker: tuple(dict.fromkeys((*before.get(broker, ()), *now.get(broker, ())))) for broker in {**before, **now}}


def _remembered(memory: Path | None) -> Remembered | None:
    """None when there is nothing, or nothing that can be read: the answer is only a convenience."""
    if memory is None:
        return None
    try:
        return msgspec.json.decode(memory.read_bytes(), type=Remembered)
    except (OSError, msgspec.DecodeError):
        return None
