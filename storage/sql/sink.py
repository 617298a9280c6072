"""`SqlSink`: rows into tables, one transaction a write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
import stamina
from sqlalchemy.exc import DBAPIError

from storage.ranges import overlay
from storage.sql.database import Database
from storage.sql.failures import describe, is_transient
from storage.sql.schema import SQL_TABLES
from storage.tables import TABLES, Table, table_named

#: How long a write is tried again, seconds, and how often at most, when other processes hold the database.
_PATIENCE: Final = 60.0
_ATTEMPTS: Final = 20


def sql_sink(url: str) -> SqlSink:
    """Raises `ConfigurationError`."""
    return SqlSink(Database(url))


class SqlSink:
    """See `storage.contract.Sink`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def url(self) -> str:
        return self._database.url

    def write(self, table: str, rows: pl.DataFrame) -> None:
        spec = table_named(table)
        if rows.is_empty():
            return
        conformed = self._encoded(spec, spec.conform(rows))
        put = self._put_ranges if spec.merge == "ranges" else self._upsert
        self._transact(f"{self.url}: table {table!r}", lambda connection: put(connection, spec, conformed))

    def check(self) -> None:
        self._database.check()

    def close(self) -> None:
        self._database.close()

    def _transact(self, where: str, body: Callable[[sa.Connection], None]) -> None:
        try:
            for attempt in stamina.retry_context(
                on=is_transient, attempts=_ATTEMPTS, timeout=_PATIENCE, wait_initial=0.05, wait_max=2.0
            ):
                with attempt, self._database.transaction() as connection:
                    body(connection)
        except DBAPIError as error:
            raise describe(where, error) from error

    def _encoded(self, spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows as the database takes them; in the order of their key, in which it stores them, where theirs does not count."""
        if spec.merge != "ranges":
            rows = rows.sort(spec.key, maintain_order=True)
        times = [column.name for column in spec.columns if column.kind == "time"]
        return rows.with_columns(self._database.encode_times(rows.get_column(name)) for name in times)

    def _upsert(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        connection.exec_driver_sql(self._upserts[spec.name], rows.rows())

    def _put_ranges(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        group = spec.key[:-1]
        table = SQL_TABLES[spec.name]

        def of_group(row: dict[str, Any]) -> tuple[Any, ...]:
            return tuple(row[name] for name in group)

        # A stable sort: the rows of a group keep their order.
        for key, members in groupby(sorted(rows.to_dicts(), key=of_group), of_group):
            later = list(members)
            first, last = min(row["first"] for row in later), max(row["last"] for row in later)
            touched = sa.and_(
                *(table.c[name] == value for name, value in zip(group, key, strict=True)),
                table.c["first"] <= last,
                table.c["last"] >= first,
            )
            standing = [dict(row) for row in connection.execute(sa.select(table).where(touched)).mappings()]
            connection.execute(sa.delete(table).where(touched))
            connection.execute(sa.insert(table), overlay(standing, later))

    @cached_property
    def _upserts(self) -> dict[str, str]:
        return {name: self._upsert_text(table) for name, table in TABLES.items()}

    def _upsert_text(self, spec: Table) -> str:
        table = SQL_TABLES[spec.name]
        statement = self._database.insert(table)
        replaced = {name: statement.excluded[name] for name in spec.names if name not in spec.key}
        newer: Sequence[str] = spec.newer
        condition = None
        if newer:
            condition = sa.tuple_(*(statement.excluded[name] for name in newer)) > sa.tuple_(*(table.c[name] for name in newer))
        text = statement.on_conflict_do_update(index_elements=list(spec.key), set_=replaced, where=condition)
        return str(text.compile(dialect=self._database.dialect))
