"""One partition: an SQLite file in WAL mode with a row per record.

Invariants, held by every committed transaction:

- offsets are ``begin … next - 1`` without holes, and each is used once for ever;
- ``append_time`` never falls with the offset;
- ``position`` is the sum of the sizes (key and value, bytes) of all records before, also of those deleted since;
- ``checksum`` is the CRC-32 of key and value.

`synchronous=FULL` makes a commit wait for the disk, and a reader sees only what has been committed, so nobody
reads a record that a power failure takes back.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

from brokers.contract import Record

T = TypeVar("T")

FORMAT: Final = 1
_APPLICATION_ID: Final = 0x696F746C
#: Records of 1 kB fit without overflow pages, and a commit of one small record writes few bytes.
_PAGE_BYTES: Final = 8192
_WAL_BYTES: Final = 8 << 20
_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",
    f"PRAGMA wal_autocheckpoint={_WAL_BYTES // _PAGE_BYTES}",
    f"PRAGMA journal_size_limit={2 * _WAL_BYTES}",
    "PRAGMA cache_size=-512",
    "PRAGMA temp_store=MEMORY",
)
_SCHEMA: Final = (
    f"PRAGMA page_size={_PAGE_BYTES}",
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    """CREATE TABLE records (
        "offset" INTEGER PRIMARY KEY, append_time INTEGER NOT NULL, position INTEGER NOT NULL,
        checksum INTEGER NOT NULL, "key" BLOB NOT NULL, value BLOB NOT NULL)""",
    """CREATE TABLE state (
        "begin" INTEGER NOT NULL, next INTEGER NOT NULL, last_time INTEGER NOT NULL,
        begin_position INTEGER NOT NULL, next_position INTEGER NOT NULL)""",
    "INSERT INTO state VALUES (0, 0, 0, 0, 0)",
    f"PRAGMA application_id={_APPLICATION_ID}",
    f"PRAGMA user_version={FORMAT}",
)
_VACUUM_PAGES: Final = 256
_CONTENDED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class WrongFormat(sqlite3.DatabaseError):
    """The file is no partition, or one of a later version."""


class Retention(NamedTuple):
    """How much to keep: bytes of keys and values, and age in µs. Zero means no limit."""

    bytes: int = 0
    age: int = 0


class State(NamedTuple):
    """What a partition holds: offsets ``begin … next - 1``; positions are bytes since its beginning."""

    begin: int
    next: int
    last_time: int
    begin_position: int
    next_position: int


def make_partition_file(path: Path) -> None:
    """Make an empty partition and see it on disk. Raises `OSError` or `sqlite3.Error`."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in _SCHEMA:
            connection.execute(statement)
    finally:
        connection.close()


class Partition:
    """An open partition file. Methods raise `sqlite3.Error`, and `TimeoutError` when others held it until the deadline.

    ``closing`` ends every wait. Raises `WrongFormat` when it is opened. Deadlines are of `time.monotonic`.
    """

    def __init__(self, path: Path, closing: threading.Event, *, deadline: float) -> None:
        self._closing = closing
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=0
        )
        try:
            # Also opening has to wait: the process that closes last, or repairs after a crash, has the file for itself.
            for pragma in _PRAGMAS:
                self._patiently(partial(self._connection.execute, pragma), deadline)
            self._check_format(deadline)
            self.inode = path.stat().st_ino
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def _check_format(self, deadline: float) -> None:
        def ask(name: str) -> int:
            return int(self._patiently(lambda: self._connection.execute(f"PRAGMA {name}").fetchone()[0], deadline))

        kind, version = ask("application_id"), ask("user_version")
        if kind != _APPLICATION_ID:
            raise WrongFormat("is no partition of a log")
        if version > FORMAT:
            raise WrongFormat(f"has format {version}, and this version of iotcloud knows those up to {FORMAT}")

    def state(self, *, deadline: float) -> State:
        return self._patiently(lambda: State(*self._connection.execute("SELECT * FROM state").fetchone()), deadline)

    def append(self, entries: Sequence[tuple[bytes, bytes]], *, now: int, deadline: float) -> State:
        """Append keys and values in one transaction; when this returns they are on disk. ``now`` is µs since 1970."""
        execute = self._connection.execute
        self._patiently(lambda: execute("BEGIN IMMEDIATE"), deadline)
        try:
            state = State(*execute("SELECT * FROM state").fetchone())
            append_time = max(now, state.last_time)
            rows = []
            position = state.next_position
            for offset, (key, value) in enumerate(entries, start=state.next):
                rows.append((offset, append_time, position, crc32(value, crc32(key)), key, value))
                position += len(key) + len(value)
            self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
            after = state._replace(next=state.next + len(rows), last_time=append_time, next_position=position)
            execute("UPDATE state SET next = ?, last_time = ?, next_position = ?", (after.next, append_time, position))
            execute("COMMIT")
            return after
        except BaseException:
            self._rollback()
            raise

    def read(self, offset: int, *, max_records: int, max_bytes: int, deadline: float) -> list[Record]:
        """The records from ``offset`` on: at least one when there is one."""
        return self._patiently(lambda: self._read(offset, max_records, max_bytes), deadline)

    def _read(self, offset: int, max_records: int, max_bytes: int) -> list[Record]:
        records: list[Record] = []
        add, new, left = records.append, tuple.__new__, max_bytes
        rows = self._connection.execute(
            'SELECT "offset", append_time, "key", value, checksum FROM records WHERE "offset" >= ? ORDER BY "offset" LIMIT ?',
            (offset, max(1, max_records)),
        )
        for number, append_time, key, value, checksum in rows:
            left -= len(value)
            if left < 0 and records:
                break
            if crc32(value, crc32(key)) != checksum:
                value = b""
            add(new(Record, (number, append_time, key.decode(errors="replace"), value)))
        rows.close()  # ends the read transaction, which would hold up checkpoints
        return records

    def first_at(self, time: int, *, deadline: float) -> int:
        """The first offset with an append time of at least ``time`` (µs since 1970), or the next one."""
        return self._patiently(lambda: self._first("append_time", time), deadline)

    def trim(self, retention: Retention, *, now: int, most: int, deadline: float) -> None:
        """Delete what ``retention`` does not keep: ``most`` records at a time, and never the newest one."""
        state = self.state(deadline=deadline)
        keep_from = state.begin
        if retention.bytes and state.next_position - state.begin_position > retention.bytes:
            keep_from = self._first("position", state.next_position - retention.bytes)
        if retention.age:
            keep_from = max(keep_from, self._first("append_time", now - retention.age))
        keep_from = min(keep_from, state.next - 1, state.begin + most)
        if keep_from > state.begin:
            self._delete_before(keep_from, deadline)

    def _delete_before(self, offset: int, deadline: float) -> None:
        execute = self._connection.execute
        self._patiently(lambda: execute("BEGIN IMMEDIATE"), deadline)
        try:
            # Another process may have deleted more in the meantime: then this changes nothing.
            query = 'SELECT "offset", position FROM records WHERE "offset" >= ? ORDER BY "offset" LIMIT 1'
            kept = execute(query, (offset,)).fetchone()
            if kept is not None:
                execute('DELETE FROM records WHERE "offset" < ?', kept[:1])
                execute('UPDATE state SET "begin" = ?, begin_position = ?', kept)
            execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        free, pages = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        if free > max(2 * _VACUUM_PAGES, pages // 4):
            # Each step of this statement frees one page; `execute` makes only the first, a script makes all.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def _first(self, column: str, least: int) -> int:
        """Binary search for the first offset whose ``column``, which never falls, is at least ``least``.

        There may be holes: rows deleted since the state was read, and those that a rescue of the file has lost.
        """
        state = State(*self._connection.execute("SELECT * FROM state").fetchone())
        low, high, first = state.begin, state.next, state.next
        query = f'SELECT "offset", {column} FROM records WHERE "offset" >= ? ORDER BY "offset" LIMIT 1'  # noqa: S608  (our own)
        while low < high:
            middle = (low + high) // 2
            row = self._connection.execute(query, (middle,)).fetchone()
            if row is None:
                high = middle
            elif row[1] < least:
                low = row[0] + 1
            else:
                first, high = row[0], middle
        return first

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _patiently(self, action: Callable[[], T], deadline: float) -> T:
        """Do ``action``, again while another process holds the file, until the deadline or `close`."""
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _CONTENDED:
                    raise
                if time.monotonic() >= deadline:
                    raise TimeoutError("another process held the file until the deadline") from error
            if self._closing.wait(random.uniform(0.0005, 0.005)):
                raise TimeoutError("closed while waiting for another process")
