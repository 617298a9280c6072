"""Counting what the archive holds: with fastavro alone, as any reader of Avro files would."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fastavro

from schemas.header import HEADER_NAMES
from storage.events.files import Files, open_files

_TOPIC = re.compile(r"topic=([^/]+)")


@dataclass(frozen=True, slots=True)
class Archived:
    """Events of a topic in the journal, by identity. ``copies`` are those that stand there once more."""

    events: int
    copies: int


def archived(archive: str) -> dict[str, Archived]:
    """What the journal of an archive's URL holds, by topic."""
    seen: dict[str, Counter[tuple[str, int, int]]] = {}
    for topic, event in journal_events(archive):
        seen.setdefault(topic, Counter())[event["gateway"], event["epoch"], event["seq"]] += 1
    return {topic: Archived(len(of), sum(of.values()) - len(of)) for topic, of in seen.items()}


def journal_events(archive: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Topic and record of every event in the journal's files."""
    files = open_files(archive)
    for path in _paths(files, "journal"):
        found = _TOPIC.search(path)
        if found is None:
            continue
        with files.open(path) as file:
            reader = fastavro.reader(file)
            schema: Any = reader.writer_schema
            if tuple(field["name"] for field in schema["fields"][: len(HEADER_NAMES)]) == HEADER_NAMES:
                for event in reader:
                    yield found[1], event  # type: ignore[misc]


def _paths(files: Files, folder: str) -> Iterator[str]:
    for name in files.list(folder):
        path = f"{folder}/{name}"
        if name.endswith(".avro"):
            yield path
        elif not name.startswith("."):
            yield from _paths(files, path)
