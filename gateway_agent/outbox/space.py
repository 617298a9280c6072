"""Room on the disk: given back after a backlog has drained, and a reserve to drain with when there is none left."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

#: Free pages that are worth the work, and pages given back at a time: a step holds others up for milliseconds.
_WORTH_PAGES: Final = 256
_STEP_PAGES: Final = 256
#: The log is moved into the file when it is longer; it is at most three times as long.
LOG_BYTES: Final = 4 << 20


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
    # Each step of this statement gives back one page, and `execute` makes but one step.
    connection.executescript(f"PRAGMA incremental_vacuum({_STEP_PAGES});")
    return free > _STEP_PAGES


def move_into_file(connection: sqlite3.Connection) -> None:
    """Move what the write-ahead log holds into the file, and make it empty. Raises `sqlite3.Error` when there is no room."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def log_bytes(path: Path) -> int:
    """Size of the write-ahead log of the file ``path``. Raises `OSError`."""
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


class Ballast:
    """A file beside the outbox that is nothing but room.

    On a full disk it goes, so that the log can be moved into the file and letting go of frames be written down: its
    size is that of the longest log.
    """

    def __init__(self, outbox: Path) -> None:
        self._path = outbox.with_suffix(".reserve")
        self._there = False

    def lay_by(self) -> bool:
        """Reserve the room; whether it is there."""
        if self._there:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, 3 * LOG_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self.release()
            return False
        self._there = True
        return True

    def release(self) -> None:
        """Give the room to others, unless the disk does not let one."""
        self._there = False
        with contextlib.suppress(OSError):
            self._path.unlink()
