"""What a job remembers of its rules, and what they have ordered until it is done: one SQLite file in the job's directory.

Invariants: a state and what was fired with it are committed together; what was fired under an id stays as it was first; what is
not done is found again by the next life of the job. So no order is lost between deciding and publishing, and none is given
twice with another content.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from schemas.errors import ConfigurationError
from storage.errors import StoreFull, StoreUnavailable
from transforms.rules.fired import Fired
from transforms.rules.memory import Series

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS series (
    rule TEXT NOT NULL, device TEXT NOT NULL, channel TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (rule, device, channel)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fired (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, fired BLOB NOT NULL,
    step INTEGER NOT NULL, done_at INTEGER, outcome TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS fired_open ON fired (step, number) WHERE step < 2;
"""
#: Steps of what was fired: its command is to be published; it is to be recorded; all done.
PUBLISH: Final = 0
RECORD: Final = 1
DONE: Final = 2
_BUSY_SECONDS: Final = 10.0
#: How long what is done is kept to be recognised, seconds; a restart reads again less than that.
_KEPT_SECONDS: Final = 30 * 86_400
_PRUNE_SECONDS: Final = 3_600.0


class Pending(NamedTuple):
    """Something fired that is not done. ``number`` gives the order; the rest says what became of its command."""

    number: int
    fired: Fired
    #: published, expired or refused; empty for none.
    outcome: str
    detail: str
    #: µs since 1970, UTC; None when it was not published.
    published_at: int | None


class JobRuleMemory:
    """See the module, and `transforms.rules.memory.RuleMemory`. ``path`` None keeps all in memory, for a job without a state.

    May be used from any thread. Raises `ConfigurationError` when it cannot be opened, `StoreUnavailable` when not written.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = str(path) if path else "the memory of rules"
        self._lock = threading.Lock()
        self._changed: Callable[[], None] = lambda: None
        self._pruned = -_PRUNE_SECONDS
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"{self._name}: {error}", remedy="give a directory that can be written") from error

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, from any thread, when something has been fired."""
        self._changed = callback

    def load(self, rule: str) -> Mapping[Series, bytes]:
        with self._lock:
            rows = self._connection.execute("SELECT device, channel, state FROM series WHERE rule = ?", (rule,)).fetchall()
        return {(device, channel): state for device, channel, state in rows}

    def commit(self, rule: str, states: Mapping[Series, bytes], fired: Sequence[Fired]) -> None:
        """See `transforms.rules.memory.RuleMemory.commit`."""
        encode = msgspec.msgpack.encode
        with self._lock, self._transaction():
            self._connection.executemany(
                "INSERT INTO series VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state",
                [(rule, device, channel, state) for (device, channel), state in states.items()],
            )
            self._connection.executemany(
                "INSERT INTO fired (id, fired, step) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
                [(found.id, encode(found), RECORD if found.command is None else PUBLISH) for found in fired],
            )
        if fired:
            self._changed()

    def knows(self, id_: str) -> bool:
        """Whether something was fired under this id."""
        with self._lock:
            return self._connection.execute("SELECT 1 FROM fired WHERE id = ?", (id_,)).fetchone() is not None

    def pending(self, step: int, *, after: int = 0, most: int = 1_000) -> list[Pending]:
        """What waits for `PUBLISH` or `RECORD`, in the order in which it was fired, behind number ``after``."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT number, fired, outcome, detail, done_at FROM fired WHERE step = ? AND number > ? ORDER BY number LIMIT ?",
                (step, after, most),
            ).fetchall()
        decode = msgspec.msgpack.Decoder(Fired).decode
        return [Pending(number, decode(data), outcome, detail, done_at) for number, data, outcome, detail, done_at in rows]

    def ordered(self, numbers: Sequence[int], outcome: str, *, detail: str = "", published_at: int | None = None) -> None:
        """What became of the commands of these; what is left is to record them."""
        with self._lock, self._transaction():
            self._connection.executemany(
                "UPDATE fired SET step = ?, outcome = ?, detail = ?, done_at = ? WHERE number = ? AND step = ?",
                [(RECORD, outcome, detail, published_at, number, PUBLISH) for number in numbers],
            )

    def recorded(self, numbers: Sequence[int]) -> None:
        """These are done."""
        with self._lock, self._transaction():
            now = time.time_ns() // 1_000
            self._connection.executemany(
                "UPDATE fired SET step = ?, done_at = coalesce(done_at, ?) WHERE number = ?",
                [(DONE, now, number) for number in numbers],
            )
            if time.monotonic() - self._pruned > _PRUNE_SECONDS:
                self._pruned = time.monotonic()
                self._connection.execute(
                    "DELETE FROM fired WHERE step = ? AND done_at < ?", (DONE, now - _KEPT_SECONDS * 1_000_000)
                )

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection, self._name)


class _Transaction:
    """``BEGIN IMMEDIATE`` to commit, or rolled back; SQLite's errors as those of stores."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def __enter__(self) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._described(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
                return
        except sqlite3.Error as failed:
            self._roll_back()
            raise self._described(failed) from failed
        self._roll_back()
        if isinstance(error, sqlite3.Error):
            raise self._described(error) from error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _described(self, error: sqlite3.Error) -> StoreUnavailable:
        message = f"{self._name}: {error}"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StoreFull(message, remedy="the disk is full or failing: free space and start the job again")
        return StoreUnavailable(message, remedy="see which process holds it with fuser")
