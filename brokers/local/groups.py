"""Where groups of readers say they are, for people to look at: ``DIR/groups.sqlite``. Nothing relies on it."""

from __future__ import annotations

import sqlite3

from brokers.local.layout import Layout


class Groups:
    """Positions by group, topic and partition."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.directory / "groups.sqlite"
        self._connection: sqlite3.Connection | None = None

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Note the next offset of a group; given up without an error when the file is busy or cannot be written."""
        try:
            self._open().execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                (group, topic, partition, offset),
            )
        except sqlite3.Error:
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=0.2)
            self._connection = connection
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(
                """CREATE TABLE IF NOT EXISTS positions (
                    "group" TEXT, topic TEXT, partition INTEGER, "offset" INTEGER NOT NULL,
                    PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID"""
            )
        return self._connection
