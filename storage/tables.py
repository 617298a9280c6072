"""The tables of results, as data: what every sink keeps, and by which key."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import polars as pl

from schemas.errors import ConfigurationError

#: A time is µs since 1970, UTC, in the rows that are written.
Kind = Literal["time", "text", "integer", "real", "bytes"]

#: How a row meets the one of the same key: it takes its place; or only when its ``newer`` columns, compared in their order,
#: are greater; or it takes over the range ``first`` to ``last`` of its group from every row that overlaps it, of which
#: remains what lies outside; or every row of its group whose ``window_start`` to ``window_end`` (exclusive) overlaps its own
#: goes ("spans"). A group is the key without its last column.
Merge = Literal["replace", "newer", "ranges", "spans"]

_POLARS: Final[dict[Kind, pl.DataType]] = {
    "time": pl.Int64(),
    "text": pl.String(),
    "integer": pl.Int64(),
    "real": pl.Float64(),
    "bytes": pl.Binary(),
}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    merge: Merge = "replace"
    newer: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def types(self) -> dict[str, pl.DataType]:
        """Types of the columns in rows that are written."""
        return {column.name: _POLARS[column.kind] for column in self.columns}

    def conform(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``rows`` with the table's columns, in its order and of its types.

        Raises `ConfigurationError` for columns that are missing, unknown, of another type, or null where they must not be.
        """
        unknown = [name for name in rows.columns if name not in self.names]
        missing = [column.name for column in self.columns if not column.nullable and column.name not in rows.columns]
        if unknown or missing:
            raise ConfigurationError(
                f"rows for {self.name!r}: "
                + "; ".join(
                    [*(f"unknown column {name!r}" for name in unknown), *(f"column {name!r} is missing" for name in missing)]
                ),
                remedy="columns: " + ", ".join(self.names),
            )
        try:
            conformed = rows.select(
                pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name)
                for name, dtype in self.types.items()
            )
        except pl.exceptions.PolarsError as error:
            raise ConfigurationError(f"rows for {self.name!r}: {error}") from error
        for column in self.columns:
            if not column.nullable and conformed.get_column(column.name).null_count():
                raise ConfigurationError(f"rows for {self.name!r}: column {column.name!r} holds null")
        return conformed

    def standing(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Of several of ``rows`` of one key the one that stands in the end; all, where rows of other keys matter too."""
        if self.merge in ("ranges", "spans"):
            return rows
        ordered = rows.sort(self.newer, maintain_order=True) if self.newer else rows
        return ordered.unique(self.key, keep="last", maintain_order=True)


def _columns(text: str) -> tuple[Column, ...]:
    """Columns written as ``name kind`` or ``name kind?`` (nullable), separated by commas."""
    columns = []
    for item in text.split(","):
        name, kind = item.split()
        columns.append(Column(name, kind.rstrip("?"), nullable=kind.endswith("?")))  # type: ignore[arg-type]
    return tuple(columns)


#: Null unless the window is asked for them. ``others`` is a JSON object of what has no column here.
_ON_DEMAND: Final = "stddev real?, first real?, last real?, p50 real?, p90 real?, p95 real?, p99 real?, others text?"

AGGREGATES: Final = Table(
    "aggregates",
    _columns(
        "window_start time, window_end time, device text, channel text, count integer, sum real?, mean real?, min real?,"
        f"max real?, {_ON_DEMAND}, pane text, updated_at time"
    ),
    key=("window_start", "window_end", "device", "channel"),
)
#: Windows of kind "session", by the window's name. None goes beyond a period, a multiple of the longest that one may be.
SESSIONS: Final = Table(
    "sessions",
    _columns(
        "name text, period_start time, device text, channel text, window_start time, window_end time, count integer, sum real?,"
        f"mean real?, min real?, max real?, {_ON_DEMAND}, pane text, updated_at time"
    ),
    key=("name", "period_start", "device", "channel", "window_start"),
    merge="spans",
)
LATEST: Final = Table(
    "latest",
    _columns(
        "device text, channel text, event_time time, gateway text, epoch integer, seq integer, value real?, text text?,"
        "updated_at time"
    ),
    key=("device", "channel"),
    merge="newer",
    newer=("event_time", "epoch", "seq"),
)
GAPS: Final = Table(
    "gaps",
    _columns(
        "topic text, gateway text, epoch integer, first integer, last integer, count integer, state text, reason text,"
        "detected_at time"
    ),
    key=("topic", "gateway", "epoch", "first"),
    merge="ranges",
)
COMMANDS: Final = Table(
    "commands",
    _columns(
        "id text, rule text, gateway text, device text, name text, args text, issued_at time, deadline time,"
        "cause_device text, cause_channel text, cause_time time, window_start time?, window_end time?, cause text,"
        "state text, published_at time?, detail text?"
    ),
    key=("id",),
)
ALERTS: Final = Table(
    "alerts",
    _columns("id text, rule text, device text, channel text, state text, time time, detail text"),
    key=("id",),
)
DEAD_LETTERS: Final = Table(
    "dead_letters",
    _columns("topic text, partition integer, offset integer, reason text, time time, frame bytes"),
    key=("topic", "partition", "offset"),
)

TABLES: Final = MappingProxyType(
    {table.name: table for table in (AGGREGATES, SESSIONS, LATEST, GAPS, COMMANDS, ALERTS, DEAD_LETTERS)}
)


def table_named(name: str) -> Table:
    """Raises `ConfigurationError` for a table that is not one of these."""
    try:
        return TABLES[name]
    except KeyError:
        raise ConfigurationError(f"there is no table {name!r}", remedy="one of " + ", ".join(TABLES)) from None
