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
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    except sqlite3.Error as error:
        raise OutboxError(f"{path}: {error}", remedy="see that the data directory exists and may be written") from error
    try:
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise failure(path, error) from error
        raise
    return connection


def failure(path: Path, error: sqlite3.DatabaseError) -> OutboxError:
    """What an error of SQLite means for the outbox."""
    if is_damage(error):
        return OutboxDamaged(f"{path}: damaged: {error}", remedy="'iotcloud gateway outbox repair' saves what can be read")
    return OutboxError(f"{path}: {error}", remedy="see that the disk is there, has room and may be written")


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
