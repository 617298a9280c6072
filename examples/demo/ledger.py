"""The ledger: for every topic, what was accepted, published, archived and counted in windows.

Each column is read where it stands, by means that owe nothing to the pipeline: the gateway's own counters, the
Avro files with fastavro, the database with SQL.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import fastavro

from schemas.header import HEADER_NAMES

_TOPIC = re.compile(r"topic=([^/]+)")


@dataclass(frozen=True, slots=True)
class Archived:
    """Events of a topic in the journal. ``copies`` are events that stand there more than once."""

    events: int
    copies: int


def archived(archive: Path) -> dict[str, Archived]:
    """Count the events in the journal's files, by identity."""
    seen: dict[str, Counter[tuple[str, int, int]]] = {}
    for topic, event in journal_events(archive):
        seen.setdefault(topic, Counter())[event["gateway"], event["epoch"], event["seq"]] += 1
    return {topic: Archived(len(of), sum(of.values()) - len(of)) for topic, of in seen.items()}


def journal_events(archive: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Topic and record of every event in the journal's files."""
    for path in sorted((archive / "journal").rglob("*.avro")):
        found = _TOPIC.search(str(path))
        if found is None:
            continue
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            fields = [field["name"] for field in reader.writer_schema["fields"]]  # type: ignore[index,call-overload]
            if tuple(fields[: len(HEADER_NAMES)]) == HEADER_NAMES:
                for event in reader:
                    yield found[1], event  # type: ignore[misc]


def counted_in_windows(database: Path, size: timedelta) -> dict[str, int]:
    """Events counted in the fixed windows of ``size``, by channel."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10) as connection:
        rows = connection.execute("SELECT window_start, window_end, channel, count FROM aggregates").fetchall()
    counts: Counter[str] = Counter()
    for start, end, channel, count in rows:
        if microseconds(end) - microseconds(start) == size // timedelta(microseconds=1):
            counts[channel] += count
    return dict(counts)
