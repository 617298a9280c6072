"""An SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from schemas.errors import ConfigurationError
from settings.substitution import redact
from storage.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable
from storage.sql import times
from storage.sql.database import Database
from storage.sql.schema import SQL_TABLES
from storage.tables import TABLES, Table

_BUSY_MILLISECONDS: Final = 10_000
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_UNREACHABLE: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteDatabase(Database):
    """``url`` is ``sqlite:PATH`` or ``sqlite:///PATH``. Raises `ConfigurationError` for another."""

    attempts = 20

    def __init__(self, url: str) -> None:
        super().__init__(redact(url))
        self.path = _path(url)
        # Text is bound in UTF-8 as it is; times are text here, see `storage.sql.times`.
        self._dialect = sqlite.dialect(paramstyle="qmark")

    def encoded(self, spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
        return times.as_texts(spec, rows)

    def upsert(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        connection.exec_driver_sql(self._upserts[spec.name], rows.rows())

    def reserve(self, connection: sa.Connection, spec: Table, groups: Sequence[tuple[Any, ...]]) -> None:
        """Every transaction owns the right to write, see `_begin`."""

    def check(self) -> None:
        if self.path.exists():
            engine = self._engine_for()
            try:
                with engine.begin() as connection:
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
            except DBAPIError as error:
                raise self.describe(self.url, error) from error
            finally:
                engine.dispose()
        else:
            folder = next(parent for parent in self.path.absolute().parents if parent.exists())
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StoreUnavailable(f"{self.url}: {folder} is not writable", remedy="name another folder")

    def is_transient(self, error: Exception) -> bool:
        """Whether another process held the database."""
        return _code(error) in _LOCKED

    def describe(self, where: str, error: DBAPIError) -> StoreError:
        code = _code(error)
        message = f"{where}: {error.orig}"
        if code in _LOCKED:
            return StoreUnavailable(message, remedy="another process holds the database for long: see which with fuser")
        if code in _NO_ROOM:
            return StoreFull(
                message, remedy="the disk is full or failing, or a quota is reached: free space; nothing was half written"
            )
        if code in _UNREACHABLE:
            return StoreUnavailable(message, remedy="is the folder there and writable for this user?")
        if code in _DAMAGED:
            return StoreRefused(message, remedy="save what can be with: sqlite3 FILE .recover; or name a new file")
        return StoreRefused(message)

    def _connected(self) -> sa.Engine:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{self.url}: {error}", remedy="name a folder this user can write to") from error
        return self._engine_for()

    def _prepare(self, connection: sa.Connection) -> None:
        """A file needs nothing."""

    def _engine_for(self) -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{self.path}")
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "begin", _begin)
        return engine

    @cached_property
    def _upserts(self) -> dict[str, str]:
        return {name: self._upsert_text(table) for name, table in TABLES.items()}

    def _upsert_text(self, spec: Table) -> str:
        table = SQL_TABLES[spec.name]
        statement = sqlite.insert(table)
        replaced = {name: statement.excluded[name] for name in spec.names if name not in spec.key}
        condition = None
        if spec.newer:
            condition = sa.tuple_(*(statement.excluded[name] for name in spec.newer)) > sa.tuple_(
                *(table.c[name] for name in spec.newer)
            )
        text = statement.on_conflict_do_update(index_elements=list(spec.key), set_=replaced, where=condition)
        return str(text.compile(dialect=self._dialect))


def _code(error: Exception) -> int:
    origin = error.orig if isinstance(error, DBAPIError) else error
    return getattr(origin, "sqlite_errorcode", 0) & 0xFF


def _path(url: str) -> Path:
    if "://" not in url:
        rest = url.removeprefix("sqlite:")
    else:
        try:
            parsed = sa.make_url(url)
        except ArgumentError as error:
            raise ConfigurationError(f"{redact(url)}: {error}", remedy="write sqlite:PATH") from error
        if parsed.host or parsed.query:
            raise ConfigurationError(f"{redact(url)}: takes no host and no options", remedy="write sqlite:PATH")
        rest = parsed.database or ""
    if not rest or rest == ":memory:" or "?" in rest:
        raise ConfigurationError(f"{redact(url)}: names no file", remedy="write sqlite:PATH, such as sqlite:results.sqlite")
    return Path(rest)


def _configure(connection: Any, _record: Any) -> None:
    # pysqlite begins transactions by itself, and late; here `_begin` does.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={_BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads and then writes must own the right to write from its start.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
