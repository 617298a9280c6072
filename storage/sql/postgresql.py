"""A database of a PostgreSQL server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from storage.address import parse_address
from storage.errors import StoreError, StoreRefused
from storage.sql import postgresql_failures, times
from storage.sql.database import Database
from storage.sql.postgresql_connection import Connection
from storage.sql.postgresql_options import PostgresqlOptions, connection_parameters
from storage.tables import TABLES, Kind, Table

#: Rows of one statement; a write of more is several, in one transaction.
_BATCH: Final = 5_000
#: Bytes of one statement's frames and texts, for rows that are large.
_BATCH_BYTES: Final = 16_000_000
_ARRAYS: Final[dict[Kind, str]] = {
    "time": "timestamptz[]",
    "text": "text[]",
    "integer": "bigint[]",
    "real": "float8[]",
    "bytes": "bytea[]",
}
#: PostgreSQL's text has no character of code 0; this one pictures it.
_NULL_PICTURE: Final = "\u2400"


class PostgresqlDatabase(Database):
    """``url`` is ``postgresql://user@host:port/database?option=value``. Raises `ConfigurationError` for another."""

    def __init__(self, url: str) -> None:
        address = parse_address(url)
        super().__init__(address.redacted)
        self._options = address.options_as(PostgresqlOptions)
        self._parameters = connection_parameters(address, self._options)
        self.patience = self._options.retry

    def encoded(self, spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
        texts = [column.name for column in spec.columns if column.kind == "text"]
        pictured = pl.col(texts).str.replace_all("\0", _NULL_PICTURE, literal=True)
        return times.as_texts(spec, rows.fill_nan(None).with_columns(pictured))

    def upsert(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        # One statement may not meet a key twice.
        rows = spec.standing(rows).sort(spec.key)
        size = max(1, min(_BATCH, _BATCH * _BATCH_BYTES // max(1, int(rows.estimated_size()))))
        for batch in rows.iter_slices(size):
            columns = tuple(batch.get_column(name).to_list() for name in spec.names)
            connection.exec_driver_sql(self._upserts[spec.name], columns)

    def reserve(self, connection: sa.Connection, spec: Table, groups: Sequence[tuple[Any, ...]]) -> None:
        keys = [_lock_key(spec.name, *group) for group in groups]
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS key", (keys,))

    def check(self) -> None:
        try:
            engine = self._connected()
            try:
                with engine.begin() as connection:
                    self._check_rights(connection)
            finally:
                engine.dispose()
        except DBAPIError as error:
            raise self.describe(self.url, error) from error

    def is_transient(self, error: Exception) -> bool:
        return postgresql_failures.is_transient(error)

    def describe(self, where: str, error: DBAPIError) -> StoreError:
        return postgresql_failures.describe(where, error)

    def _connected(self) -> sa.Engine:
        def connect() -> Connection:
            # No prepared statements: a pooler before the server may give each transaction another session.
            connection = Connection.connect(**self._parameters, prepare_threshold=None)
            # The server's own limit comes first, and says more.
            connection.patience = self._options.statement_timeout + self._options.connect_timeout
            return connection

        return sa.create_engine(
            "postgresql+psycopg://", creator=connect, pool_size=1, max_overflow=0, isolation_level="READ COMMITTED"
        )

    def _prepare(self, connection: sa.Connection) -> None:
        # Two processes that start together make the tables one after the other.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_lock_key("migrations"),))
        schema = self._options.schema
        if schema and not connection.exec_driver_sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).first():
            connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')

    def _check_rights(self, connection: sa.Connection) -> None:
        lacking = connection.exec_driver_sql(_LACKING_RIGHTS, (list(TABLES),)).scalars().all()
        if lacking:
            raise StoreRefused(
                f"{self.url}: no right to write to {', '.join(lacking)}", remedy="grant the user what the store's README tells"
            )
        there = connection.exec_driver_sql("SELECT to_regclass('iotcloud_version') IS NOT NULL").scalar()
        if there:
            return
        may = (
            "SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace"
            " WHERE nspname = coalesce(nullif(%s, ''), current_schema())), has_database_privilege(current_database(), 'CREATE'))"
        )
        if not connection.exec_driver_sql(may, (self._options.schema,)).scalar():
            raise StoreRefused(f"{self.url}: no right to make tables", remedy="grant the user what the store's README tells")

    @cached_property
    def _upserts(self) -> dict[str, str]:
        return {name: _upsert_text(table) for name, table in TABLES.items()}


_LACKING_RIGHTS: Final = """
    SELECT name FROM unnest(%s::text[]) AS name
    WHERE to_regclass(quote_ident(name)) IS NOT NULL
      AND NOT (has_table_privilege(to_regclass(quote_ident(name)), 'SELECT')
           AND has_table_privilege(to_regclass(quote_ident(name)), 'INSERT')
           AND has_table_privilege(to_regclass(quote_ident(name)), 'UPDATE')
           AND (name NOT IN ('gaps', 'sessions') OR has_table_privilege(to_regclass(quote_ident(name)), 'DELETE')))
"""


def _lock_key(*parts: Any) -> int:
    """The number of an advisory lock for what ``parts`` name."""
    digest = hashlib.blake2b(repr(("iotcloud", *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _upsert_text(spec: Table) -> str:
    """Columns come as arrays: one statement, however many rows."""
    quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]

    def listed(names: Sequence[str], form: str = "{}") -> str:
        return ", ".join(form.format(quote(name)) for name in names)

    arrays = ", ".join(f"%s::{_ARRAYS[column.kind]}" for column in spec.columns)
    replaced = [name for name in spec.names if name not in spec.key]
    where = f" WHERE ({listed(spec.newer, 'excluded.{}')}) > ({listed(spec.newer, 'kept.{}')})" if spec.newer else ""
    return (
        f"INSERT INTO {quote(spec.name)} AS kept ({listed(spec.names)}) SELECT * FROM unnest({arrays})"  # noqa: S608  (names of ours)
        f" ON CONFLICT ({listed(spec.key)}) DO UPDATE SET {listed(replaced, '{0} = excluded.{0}')}{where}"
    )
