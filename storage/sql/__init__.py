"""Tables of results in an SQL database: SQLite, the embedded default, or a PostgreSQL server."""

from __future__ import annotations

import importlib
from typing import Final

from schemas.errors import ConfigurationError
from storage.contract import Sink

SCHEMES: Final = ("sqlite", "postgresql")


def open_sink(url: str) -> Sink:
    """A sink for ``sqlite:PATH`` or ``postgresql://user@host:port/database``.

    Raises `ConfigurationError`, also when the library that talks to PostgreSQL is not installed.
    """
    from storage.sql.sink import SqlSink

    if url.startswith("sqlite:"):
        from storage.sql.sqlite import SqliteDatabase

        return SqlSink(SqliteDatabase(url))
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        raise ConfigurationError(
            "PostgreSQL needs the library psycopg, which is not installed", remedy="pip install 'iotcloud[sql]'"
        ) from error
    from storage.sql.postgresql import PostgresqlDatabase

    return SqlSink(PostgresqlDatabase(url))
