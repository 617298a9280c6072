"""CQL of the tables: making them, and writing to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from storage.cassandra.layout import CQL_TYPES, NEWEST, REVISION, Layout


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def create(layout: Layout) -> Iterator[str]:
    """What makes a table that is not there."""
    if layout.table.merge == "newer":
        fields = ", ".join(f'"{column.name}" {CQL_TYPES[column.kind]}' for column in layout.inner)
        yield f"CREATE TYPE IF NOT EXISTS {NEWEST} ({fields})"
    columns = ", ".join(f'"{name}" {cql_type}' for name, cql_type in layout.columns.items())
    key = f"({quoted(layout.partition)})" + "".join(f', "{name}"' for name in layout.clustering)
    yield f'CREATE TABLE IF NOT EXISTS "{layout.table.name}" ({columns}, PRIMARY KEY ({key}))'


def add_columns(layout: Layout, present: Iterable[str]) -> Iterator[str]:
    """What brings a table of an earlier version to the present form."""
    there = set(present)
    for name, cql_type in layout.columns.items():
        if name not in there:
            yield f'ALTER TABLE "{layout.table.name}" ADD "{name}" {cql_type}'


def insert(layout: Layout, columns: Sequence[str]) -> str:
    """Its parameters: the columns, then the write's timestamp and seconds to live."""
    marks = ", ".join("?" * len(columns))
    return f'INSERT INTO "{layout.table.name}" ({quoted(columns)}) VALUES ({marks}) USING TIMESTAMP ? AND TTL ?'  # noqa: S608  (names of ours)


def insert_plainly(layout: Layout, columns: Sequence[str]) -> str:
    """For a conditional batch, whose timestamp the servers agree on. Its parameters: the columns, then seconds to live."""
    marks = ", ".join("?" * len(columns))
    return f'INSERT INTO "{layout.table.name}" ({quoted(columns)}) VALUES ({marks}) USING TTL ?'  # noqa: S608


def delete(layout: Layout) -> str:
    """Its parameters: the write's timestamp, then the key."""
    return f'DELETE FROM "{layout.table.name}" USING TIMESTAMP ? WHERE {_equal(layout.key)}'  # noqa: S608


def delete_plainly(layout: Layout) -> str:
    return f'DELETE FROM "{layout.table.name}" WHERE {_equal(layout.key)}'  # noqa: S608


def revise(layout: Layout) -> str:
    """Its parameters: the next revision, the key of the partition, the revision that must still stand."""
    where = _equal(layout.partition)
    return f'UPDATE "{layout.table.name}" SET {REVISION} = ? WHERE {where} IF {REVISION} = ?'  # noqa: S608


def select(layout: Layout) -> str:
    """All rows of a partition, and its revision."""
    columns = quoted((*layout.table.names, REVISION))
    return f'SELECT {columns} FROM "{layout.table.name}" WHERE {_equal(layout.partition)}'  # noqa: S608


def _equal(names: Iterable[str]) -> str:
    return " AND ".join(f'"{name}" = ?' for name in names)
