"""Reading tables of results as anyone would: with the database's own client."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import stamina

from storage.address import parse_address
from storage.tables import TABLES

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds in which a server that cannot answer is asked again.
_PATIENCE: Final = 30.0
Rows = list[tuple[Any, ...]]


class Database(Protocol):
    """One set of tables."""

    def rows(self, table: str, *columns: str) -> Rows:
        """All rows of a table, with these columns; none while the table is not there yet. Times are aware."""


@contextmanager
def opened(url: str, environment: Mapping[str, str]) -> Iterator[Database]:
    """The database of a URL as in `storage.open_sink`, whose variables are in ``environment``."""
    match url.partition(":")[0]:
        case "sqlite":
            yield _Sqlite(Path(url.removeprefix("sqlite:")))
        case "postgresql":
            with closing(_Postgresql(url, environment)) as database:
                yield database
        case _:
            with closing(_Cassandra(url, environment)) as database:
                yield database


class _Sqlite:
    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, table: str, *columns: str) -> Rows:
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)) as connection:
            try:
                found = connection.execute(_select(table, columns)).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise
        return _with_times(table, columns, found)


class _Postgresql:
    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        import psycopg

        from storage.sql.postgresql_options import PostgresqlOptions, connection_parameters

        address = parse_address(url, environment)
        parameters = connection_parameters(address, address.options_as(PostgresqlOptions))
        self._missing = psycopg.errors.UndefinedTable
        self._connection = psycopg.connect(**parameters, autocommit=True)
        self._connection.execute("SET timezone = 'UTC'")

    def rows(self, table: str, *columns: str) -> Rows:
        try:
            return self._connection.execute(_select(table, columns)).fetchall()
        except self._missing:
            return []

    def close(self) -> None:
        self._connection.close()


class _Cassandra:
    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        from cassandra import InvalidRequest  # type: ignore[import-untyped]
        from cassandra.auth import PlainTextAuthProvider  # type: ignore[import-untyped]
        from cassandra.cluster import (  # type: ignore[import-untyped]
            EXEC_PROFILE_DEFAULT,
            Cluster,
            ExecutionProfile,
            NoHostAvailable,
        )
        from cassandra.policies import RoundRobinPolicy  # type: ignore[import-untyped]

        address = parse_address(url, environment)
        self._keyspace = address.name
        self._missing = InvalidRequest
        self._away = NoHostAvailable
        self._cluster = Cluster(
            list(address.hosts),
            auth_provider=PlainTextAuthProvider(address.user, address.password),
            execution_profiles={EXEC_PROFILE_DEFAULT: ExecutionProfile(RoundRobinPolicy(), request_timeout=30)},
        )
        try:
            self._session = self._cluster.connect()
        except BaseException:
            self._cluster.shutdown()
            raise

    def rows(self, table: str, *columns: str) -> Rows:
        try:
            # A table that has just been made may be unknown to the server for a moment.
            for attempt in stamina.retry_context(on=self._away, timeout=_PATIENCE):
                with attempt:
                    found = list(self._session.execute(_select(table, columns, keyspace=self._keyspace)))
        except self._missing:
            return []
        # A partition all of whose rows have gone still has what is one for all of them.
        return _with_times(table, columns, [row for row in found if any(value is not None for value in row)])

    def close(self) -> None:
        self._cluster.shutdown()


def _select(table: str, columns: tuple[str, ...], *, keyspace: str = "") -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return f'SELECT {names} FROM {keyspace}{"." if keyspace else ""}"{table}"'  # noqa: S608  (names of ours)


def _with_times(table: str, columns: tuple[str, ...], rows: Rows) -> Rows:
    """Rows of a database that keeps times as text or as µs since 1970."""
    times = {column.name for column in TABLES[table].columns if column.kind == "time"}
    kept = [name in times for name in columns]
    return [tuple(_time(value) if time else value for time, value in zip(kept, row, strict=True)) for row in rows]


def _time(value: str | int | None) -> datetime | None:
    if value is None:
        return None
    return EPOCH + timedelta(microseconds=value) if isinstance(value, int) else datetime.fromisoformat(value)
