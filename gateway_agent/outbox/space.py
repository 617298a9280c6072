"""Room on the disk: given back after a backlog has drained, and a reserve to drain with when there is none left."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

#: Free pages that are worth the work, and pages given back at a time: a step holds others up for milliseconds.
_WORTH_PAGES: Final = 256
_STEP_PAGES: Final = 512


def worth_giving_back(connection: sqlite3.Connection) -> bool:
    """Whether much of the file is free."""
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
    return free >= _WORTH_PAGES and free >= pages // 4


def give_back(connection: sqlite3.Connection) -> bool:
    """Give back some pages, if any are free; whether there are more to give."""
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    if not free:
        return False
    connection.execute(f"PRAGMA incremental_vacuum({_STEP_PAGES})").fetchall()
    if free > _STEP_PAGES:
        return True
    # Only a checkpoint makes the file itself shorter; it fails harmlessly while somebody reads.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return False


class Ballast:
    """A file that is nothing but room. On a full disk it goes, so that letting go of frames can be written down."""

    SIZE: Final = 4 << 20

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there = False

    def lay_by(self) -> None:
        """Reserve the room if there is any; without it the outbox works all the same."""
        if self._there:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.SIZE)
            finally:
                os.close(descriptor)
            self._there = True
        except OSError:
            self.release()

    def release(self) -> bool:
        """Give the room to others; whether there was any."""
        had, self._there = self._there, False
        self._path.unlink(missing_ok=True)
        return had
