"""Saving what can be read from a broken outbox into a new one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway_agent.outbox.layout import OutboxError, open_file
from gateway_agent.outbox.ledger import ROW_BYTES
from gateway_agent.outbox.outbox import take_lock

_TABLES: Final = {
    "meta": 2,
    "transports": 2,
    "streams": 9,
    "dropped": 3,
    "damaged": 8,
    "states": 2,
    "devices": 3,
    "frames": 9,
}


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved: rows of frames, of everything; whether all of it could be read; where the old file is kept."""

    frames: int
    rows: int
    complete: bool
    kept: Path


def salvage(path: Path, *, gateway: str, now: int) -> Saved:
    """Replace the outbox ``path`` by a new one that holds all rows of the old which can be read. ``now`` is µs since 1970.

    The old file stays beside it. Damaged frames among the rows are found when they are handed out, and what is
    missing is accounted for then or by the next `EpochStart`. Raises `OutboxError`.
    """
    lock = take_lock(path)
    try:
        return _salvage(path, gateway, now)
    except OSError as error:
        raise OutboxError(f"{path}: cannot be repaired: {error}", remedy="see that there is room for a second copy") from error
    finally:
        os.close(lock)


def _salvage(path: Path, gateway: str, now: int) -> Saved:
    kept = path.with_name(f"{path.stem}.damaged-{now // 1_000}.sqlite")
    draft = path.with_name(f"{path.stem}.draft.sqlite")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{draft}{suffix}").unlink(missing_ok=True)
    rows, complete = dict.fromkeys(_TABLES, 0), True
    new = open_file(draft)
    try:
        new.execute("BEGIN")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
            for table, columns in _TABLES.items():
                reader = _Reader(old, table, columns)
                for row in reader:
                    marks = ", ".join("?" * columns)
                    with contextlib.suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):
                        new.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608  (our own tables)
                        rows[table] += 1
                complete = complete and reader.complete
        _make_whole(new, gateway, now)
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        new.close()
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    draft.rename(path)
    return Saved(rows["frames"], sum(rows.values()), complete, kept)


class _Reader:
    """Rows of a table: forwards, and where that breaks off, backwards from the end to there."""

    def __init__(self, old: sqlite3.Connection, table: str, columns: int) -> None:
        self._old = old
        self._table = table
        self._columns = columns
        self.complete = True

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        seen: set[Any] = set()
        yield from self._read("ASC", seen)
        if not self.complete:
            yield from self._read("DESC", seen)

    def _read(self, order: str, seen: set[Any]) -> Iterator[tuple[Any, ...]]:
        try:
            key = "rowid" if self._table in ("meta", "transports", "streams", "damaged", "frames") else "1"
            for row in self._old.execute(f"SELECT * FROM {self._table} ORDER BY {key} {order}"):  # noqa: S608
                if len(row) != self._columns:
                    continue
                if row[0] in seen and order == "DESC":
                    return
                seen.add(row[0])
                yield row
        except sqlite3.DatabaseError:
            self.complete = False


def _make_whole(new: sqlite3.Connection, gateway: str, now: int) -> None:
    """Put in what the rest relies on, and count anew."""
    execute: Callable[..., sqlite3.Cursor] = new.execute
    if execute("SELECT count(*) FROM meta").fetchone()[0] != 1:
        execute("DELETE FROM meta")
        # The epoch is that of the clock then: later than all before, unless the clock has been set back.
        newest = execute("SELECT max(coalesce((SELECT max(epoch) FROM frames), 0), ?)", (now // 1_000,)).fetchone()[0]
        execute("INSERT INTO meta VALUES (?, ?)", (gateway, newest))
    execute(
        "DELETE FROM frames WHERE stream NOT IN (SELECT id FROM streams) OR abs(transport) NOT IN (SELECT id FROM transports)"
    )
    execute(
        "UPDATE streams SET"
        " buffered_events = (SELECT coalesce(sum(count), 0) FROM frames WHERE stream = streams.id),"
        " buffered_bytes = (SELECT coalesce(sum(length(body) + ?), 0) FROM frames WHERE stream = streams.id)",
        (ROW_BYTES,),
    )
    lost = "accepted - published - dropped - buffered_events"
    execute(
        f"INSERT INTO dropped SELECT id, 'damaged', {lost} FROM streams WHERE {lost} > 0"  # noqa: S608
        " ON CONFLICT DO UPDATE SET events = events + excluded.events"
    )
    execute(f"UPDATE streams SET dropped = dropped + max(0, {lost})")  # noqa: S608
