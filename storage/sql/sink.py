"""`SqlSink`: rows into tables, one transaction a write."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import polars as pl
import sqlalchemy as sa
import stamina
from sqlalchemy.exc import DBAPIError

from storage.ranges import overlay
from storage.spans import survivors
from storage.sql.database import Database
from storage.sql.schema import SQL_TABLES
from storage.tables import Table, table_named


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
        conformed = spec.conform(rows)
        put = {"ranges": self._put_ranges, "spans": self._put_spans}.get(spec.merge, self._put)
        self._transact(f"{self.url}: table {table!r}", lambda connection: put(connection, spec, conformed))

    def check(self) -> None:
        self._database.check()

    def close(self) -> None:
        self._database.close()

    def _transact(self, where: str, body: Callable[[sa.Connection], None]) -> None:
        database = self._database
        try:
            for attempt in stamina.retry_context(
                on=database.is_transient,
                attempts=database.attempts,
                timeout=database.patience,
                wait_initial=0.05,
                wait_max=2.0,
            ):
                with attempt, database.transaction() as connection:
                    body(connection)
        except DBAPIError as error:
            raise database.describe(where, error) from error

    def _put(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        # In the order of their key: the database stores them so, and two writers lock them in one order.
        rows = rows.sort(spec.key, maintain_order=True)
        self._database.upsert(connection, spec, self._database.encoded(spec, rows))

    def _put_spans(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        table = SQL_TABLES[spec.name]
        group = spec.key[:-1]
        spans = self._database.encoded(spec, rows.sort(spec.key, maintain_order=True)).select(
            *group, "window_start", "window_end"
        )
        self._database.reserve(connection, spec, spans.select(group).unique(maintain_order=True).rows())
        overlapped = sa.and_(
            *(table.c[name] == sa.bindparam(f"of_{name}") for name in group),
            table.c["window_start"] < sa.bindparam("of_window_end"),
            table.c["window_end"] > sa.bindparam("of_window_start"),
        )
        connection.execute(sa.delete(table).where(overlapped), spans.rename(lambda name: f"of_{name}").to_dicts())
        self._put(connection, spec, survivors(rows, spec))

    def _put_ranges(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        group = spec.key[:-1]
        table = SQL_TABLES[spec.name]
        rows = self._database.encoded(spec, rows)

        def of_group(row: dict[str, Any]) -> tuple[Any, ...]:
            return tuple(row[name] for name in group)

        # A stable sort: the rows of a group keep their order.
        groups = {key: list(members) for key, members in groupby(sorted(rows.to_dicts(), key=of_group), of_group)}
        self._database.reserve(connection, spec, list(groups))
        for key, later in groups.items():
            first, last = min(row["first"] for row in later), max(row["last"] for row in later)
            touched = sa.and_(
                *(table.c[name] == value for name, value in zip(group, key, strict=True)),
                table.c["first"] <= last,
                table.c["last"] >= first,
            )
            standing = [dict(row) for row in connection.execute(sa.select(table).where(touched)).mappings()]
            connection.execute(sa.delete(table).where(touched))
            connection.execute(sa.insert(table), overlay(standing, later))
