"""Which events a batch job is about: their times, and what ``--select`` says of them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from schemas.errors import ConfigurationError
from storage.events.schema import TOPIC
from transforms.windows import WindowSpec

_COLUMNS: Final = {"topic": TOPIC, "gateway": "gateway", "device": "device", "channel": "channel"}


@dataclass(frozen=True)
class Choice:
    """Events from ``start`` to ``end`` (exclusive; µs since 1970, UTC), of which all ``patterns`` hold."""

    start: int | None = None
    end: int | None = None
    #: Name and shell pattern.
    patterns: tuple[tuple[str, str], ...] = ()

    def of(self, events: pl.DataFrame, *, limit: int | None = None) -> pl.DataFrame:
        """Those of ``events``, which have the column `storage.events.schema.TOPIC`, at times up to ``limit``."""
        conditions = [pl.col(_COLUMNS[name]).str.contains(_regex(pattern)) for name, pattern in self.patterns]
        time = pl.col("event_time")
        conditions += [time >= self.start] if self.start is not None else []
        conditions += [time < self.end] if self.end is not None else []
        conditions += [time <= limit] if limit is not None else []
        return events.filter(conditions) if conditions else events

    def windows(self, rows: pl.DataFrame, windows: Sequence[WindowSpec]) -> pl.DataFrame:
        """Of result rows those of windows that lie in the times as a whole: of the others not all events were read.

        Of a session it is the period that must lie in them.
        """
        start, end = pl.col("window_start"), pl.col("window_end")
        if "period_start" in rows.columns:
            sizes = {window.name: window.size for window in windows}
            start = pl.col("period_start")
            end = start + pl.col("name").replace_strict(sizes, return_dtype=pl.Int64)
        conditions = [start >= self.start] if self.start is not None else []
        conditions += [end <= self.end] if self.end is not None else []
        return rows.filter(conditions) if conditions else rows

    def topic(self, name: str) -> bool:
        """Whether events of this topic may be among them."""
        return all(fnmatch.fnmatchcase(name, pattern) for column, pattern in self.patterns if column == "topic")


def choice(select: str, start: int | None = None, end: int | None = None) -> Choice:
    """The choice that ``--select KEY=PATTERN,…`` makes. Raises `ConfigurationError`."""
    patterns = []
    for item in filter(None, select.split(",")):
        name, equals, pattern = item.partition("=")
        if not equals or name not in _COLUMNS:
            raise ConfigurationError(f"--select: {item!r}", remedy="write KEY=PATTERN with one of " + ", ".join(_COLUMNS))
        patterns.append((name, pattern))
    if start is not None and end is not None and start >= end:
        raise ConfigurationError("--between: the first time must be before the second")
    return Choice(start, end, tuple(patterns))


def _regex(pattern: str) -> str:
    # fnmatch ends its expressions with \Z, which other engines write \z.
    return "^" + re.sub(r"\\Z$", r"\\z", fnmatch.translate(pattern))
