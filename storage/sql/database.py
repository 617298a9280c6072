"""One SQL database, opened for writing and brought to the present form. What differs between databases, each says itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from storage.errors import StoreError, StoreRefused
from storage.tables import Table

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Database(ABC):
    """Opened when it is first written to."""

    #: Seconds that a write is tried again for when what failed is transient, and how often at most (None: no limit).
    patience: float = 60.0
    attempts: int | None = None

    def __init__(self, url: str) -> None:
        """``url`` without anything secret."""
        self.url = url
        self._engine: sa.Engine | None = None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction; undone when the body raises."""
        if self._engine is None:
            self._engine = self._open()
        with self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @abstractmethod
    def encoded(self, spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of ``spec`` as this database takes them."""

    @abstractmethod
    def upsert(self, connection: sa.Connection, spec: Table, rows: pl.DataFrame) -> None:
        """Put rows that are `encoded`, sorted by their key, into their table."""

    @abstractmethod
    def reserve(self, connection: sa.Connection, spec: Table, groups: Sequence[tuple[Any, ...]]) -> None:
        """Let nobody else change the ranges of ``groups`` before the transaction ends."""

    @abstractmethod
    def check(self) -> None:
        """Whether it could be written to, without writing. Raises `StoreError`."""

    @abstractmethod
    def is_transient(self, error: Exception) -> bool:
        """Whether trying again at once may help."""

    @abstractmethod
    def describe(self, where: str, error: sa.exc.DBAPIError) -> StoreError:
        """The store's error for what the database said about ``where``."""

    @abstractmethod
    def _connected(self) -> sa.Engine:
        """An engine for it. Raises `StoreError`."""

    @abstractmethod
    def _prepare(self, connection: sa.Connection) -> None:
        """Do what a migration needs before it, within its transaction."""

    def _open(self) -> sa.Engine:
        engine = self._connected()
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        try:
            with engine.begin() as connection:
                self._prepare(connection)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            engine.dispose()
            raise StoreRefused(
                f"{self.url}: made by a newer version of this program: {error}",
                remedy="run that version, or name another place",
            ) from error
        except BaseException:
            engine.dispose()
            raise
        return engine
