"""One SQL database: where it is, opened for writing, brought to the present form. What differs between databases is here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from schemas.errors import ConfigurationError
from settings.substitution import redact
from storage.errors import StoreRefused, StoreUnavailable
from storage.sql import times
from storage.sql.failures import describe

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BUSY_MILLISECONDS: Final = 10_000


class Database:
    """An SQLite file. ``url`` is ``sqlite:PATH`` or ``sqlite:///PATH``. Raises `ConfigurationError` for another."""

    def __init__(self, url: str) -> None:
        self.url = redact(url)
        self.path = _path(url)
        # Text is bound in UTF-8 as it is; times are text here, see `storage.sql.times`.
        self.insert: Callable[[sa.Table], sqlite.Insert] = sqlite.insert
        self.dialect = sqlite.dialect(paramstyle="qmark")
        self._engine: sa.Engine | None = None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction that owns the right to write from its start; undone when the body raises."""
        if self._engine is None:
            self._engine = self._open()
        with self._engine.begin() as connection:
            yield connection

    def encode_times(self, times_: pl.Series) -> pl.Series:
        """A column of times as this database takes it."""
        return times.texts(times_)

    def check(self) -> None:
        """Whether it could be written to, without writing. Raises `StoreError`."""
        if self.path.exists():
            engine = self._engine_for()
            try:
                with engine.begin() as connection:
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
            except DBAPIError as error:
                raise describe(self.url, error) from error
            finally:
                engine.dispose()
        else:
            folder = next(parent for parent in self.path.absolute().parents if parent.exists())
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StoreUnavailable(f"{self.url}: {folder} is not writable", remedy="name another folder")

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _open(self) -> sa.Engine:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{self.url}: {error}", remedy="name a folder this user can write to") from error
        engine = self._engine_for()
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        try:
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise StoreRefused(
                f"{self.url}: made by a newer version of this program: {error}", remedy="run that version, or name another file"
            ) from error
        return engine

    def _engine_for(self) -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{self.path}")
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "begin", _begin)
        return engine


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
