"""How the tables of `storage.tables` stand in Cassandra: which rows lie together, and in which order.

Times are bigint, µs since 1970: Cassandra's own type of times has milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import polars as pl

from storage.tables import TABLES, Column, Kind, Table

CQL_TYPES: Final[dict[Kind, str]] = {"time": "bigint", "text": "text", "integer": "bigint", "real": "double", "bytes": "blob"}

#: Dead letters of so many offsets lie together.
_BLOCK: Final = 10_000
_DAY: Final = 86_400_000_000
#: Column with a whole row that only a newer one replaces, and the type of what is in it.
NEWEST: Final = "newest"
#: Column, one for all rows of a partition, that changes with any of them.
REVISION: Final = "revision"


@dataclass(frozen=True, slots=True)
class Derived:
    """A column that is made of others."""

    name: str
    cql_type: str
    expression: pl.Expr


@dataclass(frozen=True, slots=True)
class Layout:
    table: Table
    partition: tuple[str, ...]
    clustering: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = field(default=())
    #: Whether its rows may be given a time to live.
    expires: bool = True

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.partition, *self.clustering)

    @property
    def columns(self) -> dict[str, str]:
        """Names and CQL types, in order; the key first."""
        types = {column.name: CQL_TYPES[column.kind] for column in self.table.columns}
        types |= {column.name: column.cql_type for column in self.derived}
        if self.table.merge == "newer":
            types = {name: types[name] for name in self.key} | {NEWEST: f"frozen<{NEWEST}>"}
        elif self.table.merge in ("ranges", "spans"):
            types[REVISION] = "uuid static"
        return {name: types[name] for name in self.key} | types

    @property
    def inner(self) -> tuple[Column, ...]:
        """Of a table of newest rows, what is in its one column: first what decides which is the newest."""
        spec = self.table
        others = [column for column in spec.columns if column.name not in (*self.key, *spec.newer)]
        deciding = [next(column for column in spec.columns if column.name == name) for name in spec.newer]
        return (*deciding, *others)


def _layout(table: Table) -> Layout:
    if table.merge in ("ranges", "spans"):
        return Layout(table, table.key[:-1], table.key[-1:], expires=table.merge == "spans")
    if table.merge == "newer":
        # Both: a partition's key of one column could not be empty.
        return Layout(table, table.key, expires=False)
    if table.name == "aggregates":
        day = Derived("day", "date", pl.col("window_start").floordiv(_DAY).cast(pl.Int32).cast(pl.Date))
        start = Derived("time", "timestamp", pl.col("window_start").floordiv(1000))
        return Layout(table, ("device", "channel", "day"), ("window_start", "window_end"), (day, start))
    if table.name == "dead_letters":
        block = Derived("block", "bigint", pl.col("offset").floordiv(_BLOCK))
        return Layout(table, ("topic", "partition", "block"), ("offset",), (block,))
    return Layout(table, table.key)


LAYOUTS: Final = MappingProxyType({name: _layout(table) for name, table in TABLES.items()})
