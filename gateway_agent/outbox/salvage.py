"""Saving what can be read from a broken outbox into a new one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_agent.outbox.layout import OutboxError, finish_repair, marker, open_file, readable, repaired
from gateway_agent.outbox.ledger import ROW_BYTES
from gateway_agent.outbox.outbox import take_lock
from gateway_agent.outbox.space import Ballast


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
    draft = path.with_name(f"{path.stem}.draft.sqlite")
    try:
        finish_repair(path)
        Ballast(path).release()
        kept = path.with_name(f"{path.stem}.damaged-{now // 1_000}.sqlite")
        saved = _copy(path, draft, kept, gateway, now)
        draft.rename(repaired(path))
        finish_repair(path, kept)
        marker(path).unlink(missing_ok=True)
        return saved
    except (OSError, sqlite3.Error) as error:
        _remove(draft)
        raise OutboxError(f"{path}: cannot be repaired: {error}", remedy="see that there is room for a second copy") from error
    finally:
        os.close(lock)


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            Path(f"{file}{suffix}").unlink()


def _copy(path: Path, draft: Path, kept: Path, gateway: str, now: int) -> Saved:
    _remove(draft)
    rows, complete = 0, True
    with contextlib.closing(open_file(draft)) as new, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.text_factory = readable
        new.execute("BEGIN")
        for table in _tables(new):
            reader = _Reader(old, table)
            for row in reader:
                with contextlib.suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):
                    new.execute(table.insertion, row)
                    rows += 1
            complete = complete and reader.complete
        _make_whole(new, gateway, now)
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        frames = new.execute("SELECT count(*) FROM frames").fetchone()[0]
    return Saved(frames, rows, complete, kept)


@dataclass(frozen=True, slots=True)
class _Table:
    """``columns`` as they are read, for damage may make a text of what is none; ``by_row`` when the first numbers the rows."""

    name: str
    columns: Sequence[str]
    by_row: bool

    @property
    def insertion(self) -> str:
        return f"INSERT INTO {self.name} VALUES ({', '.join('?' * len(self.columns))})"  # noqa: S608  (our own tables)


def _tables(new: sqlite3.Connection) -> list[_Table]:
    found: list[_Table] = []
    for name, sql in new.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall():
        described = new.execute(f"PRAGMA table_info({name})").fetchall()
        columns = [f"CAST({column} AS BLOB)" if kind == "BLOB" else column for _, column, kind, *_ in described]
        found.append(_Table(name, columns, by_row="WITHOUT ROWID" not in sql))
    return found


class _Reader:
    """Rows of a table: forwards, and where that breaks off, backwards from the end to there."""

    def __init__(self, old: sqlite3.Connection, table: _Table) -> None:
        self._old = old
        self._table = table
        self.complete = True

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        seen: set[Any] = set()
        yield from self._read("ASC", seen)
        if not self.complete:
            yield from self._read("DESC", seen)

    def _read(self, order: str, seen: set[Any]) -> Iterator[tuple[Any, ...]]:
        table = self._table
        key = "rowid" if table.by_row else "1"
        query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {key} {order}"  # noqa: S608
        try:
            for row in self._old.execute(query):
                if table.by_row and order == "DESC" and row[0] in seen:
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
