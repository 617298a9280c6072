"""One SQL database: reading by any thread, writing by one at a time, migrated when opened.

SQLite (the default) is opened in WAL mode with ``synchronous=FULL``: what a `write` block has
committed survives SIGKILL and a loss of power. Watchers are told after the commit, never before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from schemas.errors import ConfigurationError, IoTCloudError

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BUSY_MILLISECONDS: Final = 10_000
#: Key in a connection's ``info``: the transaction has added to the journal of changes.
CHANGED: Final = "changed"
_DIALECTS: Final = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class StoreError(IoTCloudError):
    """The database cannot be used."""


class Database:
    """A migrated database. ``url`` is an SQLAlchemy URL. Raises `ConfigurationError` and `StoreError`."""

    def __init__(self, url: str) -> None:
        try:
            self._reading = _engine(url, immediate=False)
            self._writing = _engine(url, immediate=True)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"--database: {error}", remedy="a URL such as sqlite:////var/lib/iotcloud/master.sqlite"
            ) from error
        if self._reading.dialect.name not in _DIALECTS:
            raise ConfigurationError(f"--database: {self._reading.dialect.name} is not supported", remedy="sqlite or postgresql")
        self._lock = threading.Lock()
        self._on_change: Callable[[], None] = lambda: None
        self._migrate()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, from any thread, after a commit that added to the journal of changes."""
        self._on_change = callback

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed on leaving, rolled back on an error. One at a time in this process."""
        with self._lock, self._writing.begin() as connection:
            connection.info.pop(CHANGED, None)
            yield connection
            changed = connection.info.pop(CHANGED, False)
        if changed:
            self._on_change()

    def close(self) -> None:
        self._reading.dispose()
        self._writing.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        try:
            with self._writing.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                f"{self._writing.url!r}: made by a newer version of the master: {error}",
                remedy="run that version, or point --database at another one",
            ) from error
        except OperationalError as error:
            raise StoreError(
                f"{self._writing.url!r}: {error.orig}", remedy="is the folder there, writable, and the disk not full?"
            ) from error


def upsert(connection: Connection, table: Table, values: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Insert, or replace the columns given of the row with that primary key."""
    if not values:
        return
    given = values[0] if isinstance(values, list) else values
    keys = [column.name for column in table.primary_key]
    statement = insert(connection, table)
    rest = {name: statement.excluded[name] for name in given if name not in keys}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=rest) if rest else statement.on_conflict_do_nothing(), values
    )


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, for the database at hand."""
    return _DIALECTS[connection.dialect.name](table)


def _engine(url: str, *, immediate: bool) -> Engine:
    engine = sqlalchemy.create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin_immediate if immediate else _begin)
    return engine


def _configure(connection: Any, _record: Any) -> None:
    # pysqlite begins transactions by itself, and late; here `_begin` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads and then writes must own the right to write from its start.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
