"""What the tables of results say."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from typing import Any, Final

from examples.demo.databases import Database
from examples.demo.expected import Statistics, Window
from storage.tables import AGGREGATES

#: How and when a row came to be, which differs between the real-time job and one that reads what is stored.
_OF_THE_RUN: Final = frozenset({"pane", "updated_at"})


def windows(database: Database) -> dict[Window, Statistics]:
    """All windows that hold numbers."""
    names = ("window_start", "window_end", "device", "channel", "count", "sum", "mean", "min", "max")
    found = ((Window(*row[:4]), Statistics(*row[4:])) for row in database.rows("aggregates", *names))
    return {window: statistics for window, statistics in found if statistics.sum is not None}


def counted(database: Database, size: timedelta) -> dict[str, int]:
    """Events in windows of ``size``, by channel."""
    counts: Counter[str] = Counter()
    for start, end, channel, count in database.rows("aggregates", "window_start", "window_end", "channel", "count"):
        if end - start == size:
            counts[channel] += count
    return dict(counts)


def different(one: Database, other: Database) -> int:
    """Rows of windows that only one has, or that are not equal in all that follows from the events, to the last bit."""
    rows = [_by_key(database) for database in (one, other)]
    return sum(rows[0].get(key) != rows[1].get(key) for key in rows[0].keys() | rows[1].keys())


def _by_key(database: Database) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    names = [*AGGREGATES.key, *(name for name in AGGREGATES.names if name not in {*AGGREGATES.key, *_OF_THE_RUN})]
    return {row[: len(AGGREGATES.key)]: row for row in database.rows("aggregates", *names)}


class Newest:
    """The newest windows of the recording's devices. Reading them takes at most a tenth of the time."""

    SHOWN: Final = 8

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due = 0.0
        self._found: tuple[int, list[tuple[Window, Statistics]]] = (0, [])

    def look(self) -> tuple[int, list[tuple[Window, Statistics]]]:
        """How many windows hold numbers, and the last of them."""
        began = time.monotonic()
        if began >= self._due:
            found = windows(self._database)
            motes = sorted((window for window in found if window.device.startswith("mote-")), key=_newest_first, reverse=True)
            self._found = len(found), [(window, found[window]) for window in motes[: self.SHOWN]]
            ended = time.monotonic()
            self._due = ended + 9 * (ended - began)
        return self._found


def _newest_first(window: Window) -> tuple[Any, ...]:
    return window.end, window.start, window.channel, window.device
