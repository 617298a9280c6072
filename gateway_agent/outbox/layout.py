"""The outbox on disk: one SQLite file in WAL mode.

Invariants, held by every committed transaction:

- within (epoch, topic) frames have consecutive seq without holes, in the order of their ids;
- a row whose transport is negative waits until its topic has none with another transport (`outbox.moving`);
- what is missing between two frames that were not published is named by a `Dropped` record in its place;
- the row that begins an epoch in a topic is its `EpochStart`;
- for every topic ``accepted = published + dropped + buffered_events``;
- a driver's state is as of the events in the same transaction, or older.

``synchronous=FULL`` makes a commit wait for the disk. SQLite's own checksums cut off a torn end of the WAL.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from gateway_agent.outbox.space import LOG_BYTES
from schemas.errors import IoTCloudError

FORMAT: Final = 1
_APPLICATION_ID: Final = 0x696F746F
_PAGE_BYTES: Final = 8192

_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",
    f"PRAGMA wal_autocheckpoint={LOG_BYTES // _PAGE_BYTES}",
    f"PRAGMA journal_size_limit={3 * LOG_BYTES}",
    "PRAGMA cache_size=-4096",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cell_size_check=ON",
)
_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE meta (gateway TEXT NOT NULL, epoch INTEGER NOT NULL);
CREATE TABLE transports (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL,
    accepted INTEGER NOT NULL, published INTEGER NOT NULL, dropped INTEGER NOT NULL,
    buffered_events INTEGER NOT NULL, buffered_bytes INTEGER NOT NULL);
CREATE TABLE frames (
    id INTEGER PRIMARY KEY, transport INTEGER NOT NULL, stream INTEGER NOT NULL, epoch INTEGER NOT NULL,
    first INTEGER NOT NULL, count INTEGER NOT NULL, droppable INTEGER NOT NULL,
    checksum INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX frames_in_order ON frames (transport);
CREATE INDEX frames_droppable ON frames (id) WHERE droppable;
CREATE TABLE dropped (
    stream INTEGER NOT NULL, reason TEXT NOT NULL, events INTEGER NOT NULL, PRIMARY KEY (stream, reason)) WITHOUT ROWID;
CREATE TABLE damaged (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, topic TEXT NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE states (application TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE devices (
    application TEXT NOT NULL, device TEXT NOT NULL, channel TEXT NOT NULL,
    PRIMARY KEY (application, device, channel)) WITHOUT ROWID;
PRAGMA application_id={_APPLICATION_ID};
PRAGMA user_version={FORMAT};
COMMIT;
"""


class OutboxError(IoTCloudError):
    """The outbox cannot be used."""


class OutboxDamaged(OutboxError):
    """The file's structure is broken; `gateway_agent.outbox.salvage` saves what can be read."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, made anew when there is none. Raises `OutboxError`, and `OutboxDamaged` when it is not readable."""
    try:
        finish_repair(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    except (sqlite3.Error, OSError) as error:
        raise OutboxError(f"{path}: {error}", remedy="see that the data directory exists and may be written") from error
    connection.text_factory = readable
    try:
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise failure(path, error) from error
        raise
    return connection


def readable(raw: bytes) -> str:
    """Text of the file, damaged or not: what is wrong with a row is found by its checksum."""
    return raw.decode(errors="replace")


def repaired(path: Path) -> Path:
    """Where a repair puts its finished file before it takes the place of the outbox ``path``."""
    return path.with_name(f"{path.stem}.repaired.sqlite")


def finish_repair(path: Path, kept: Path | None = None) -> None:
    """Put a finished repair into place, also one that was killed while it did so. Raises `OSError`.

    The outbox goes first and its log after it, to where it is ``kept``: there is no moment at which either is read without
    the other.
    """
    done = repaired(path)
    if not done.exists():
        return
    if path.exists():
        if kept is None:
            return  # killed before it began: what is there counts
        path.rename(kept)
        sync(path.parent)
    for suffix in ("-wal", "-shm"):
        left = Path(f"{path}{suffix}")
        if left.exists():
            left.rename(f"{kept or path.with_name(f'{path.stem}.damaged.sqlite')}{suffix}")
    sync(path.parent)
    done.rename(path)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def marker(path: Path) -> Path:
    """A file beside the outbox ``path`` that says that damage was found while it was in use: it is repaired when it is opened."""
    return path.with_suffix(".damaged")


def failure(path: Path, error: sqlite3.Error) -> OutboxError:
    """What an error of SQLite means for the outbox."""
    if is_damage(error):
        return damaged(path, str(error))
    return OutboxError(f"{path}: {error}", remedy="see that the disk is there, has room and may be written")


def damaged(path: Path, reason: str) -> OutboxDamaged:
    return OutboxDamaged(f"{path}: damaged: {reason}", remedy="'iotcloud gateway outbox repair' saves what can be read")


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file itself is broken, so that trying again is of no use."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room on the disk."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_FULL


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _number(connection, "user_version")
    if version == 0 and _number(connection, "schema_version") == 0:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_SCHEMA)
        version = FORMAT
    if version != FORMAT or _number(connection, "application_id") != _APPLICATION_ID:
        raise OutboxError(f"{path}: is no outbox of format {FORMAT}", remedy="give another data directory, or upgrade the agent")
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
