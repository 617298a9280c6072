"""Reading the database of results with plain SQL."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from examples.demo.expected import EPOCH, Statistics, Window


def rows(database: Path, query: str, parameters: Iterable[Any] = ()) -> list[sqlite3.Row]:
    """The answer to a query; nothing while the database or the table is not there yet."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query, tuple(parameters)).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def windows(database: Path) -> dict[Window, Statistics]:
    """All windows that hold numbers."""
    query = "SELECT window_start, window_end, device, channel, count, sum, mean, min, max FROM aggregates WHERE sum IS NOT NULL"
    return {
        Window(datetime.fromisoformat(row[0]), datetime.fromisoformat(row[1]), row[2], row[3]): Statistics(*row[4:])
        for row in rows(database, query)
    }


def counted(database: Path, size: timedelta) -> dict[str, int]:
    """Events in windows of ``size``, by channel."""
    counts: Counter[str] = Counter()
    for start, end, channel, count in rows(database, "SELECT window_start, window_end, channel, count FROM aggregates"):
        if datetime.fromisoformat(end) - datetime.fromisoformat(start) == size:
            counts[channel] += count
    return dict(counts)


def micros(text: str) -> int:
    """µs since 1970, UTC, of a time in the database."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)
