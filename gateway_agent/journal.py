"""The journal of commands: what a gateway was told to do, how far it came, and what it still has to tell.

A step and the message that tells of it are written in one transaction, with fsync; an id is in the journal
from before it is executed until long after its deadline, so that it is executed at most once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brokers.positions import Place
from gateway_agent.outbox.layout import finish_repair, is_damage, repaired
from schemas.command import FINAL_STEPS, Command, CommandState, Step, decode_command, encode_command, encode_command_state
from schemas.errors import IoTCloudError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS commands (
    id TEXT PRIMARY KEY, application TEXT NOT NULL, step TEXT NOT NULL, time INTEGER NOT NULL, deadline INTEGER NOT NULL,
    detail TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commands_by_step ON commands (step, time);
CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY, command TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (until INTEGER NOT NULL);
"""
_PRAGMAS: Final = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA cache_size=-512")
#: Finished commands are remembered for so many µs after their deadline; one that comes again later has expired anyway.
_REMEMBER: Final = 7 * 24 * 3_600_000_000

#: µs by which the clocks of who sends commands may be ahead of this one's.
_SKEW: Final = 60_000_000

_Execute = Callable[..., sqlite3.Cursor]


class JournalError(IoTCloudError):
    """The journal cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Result:
    """A message to `<gateway>.results` that has not been taken over yet."""

    id: int
    command: str
    body: bytes


class Journal:
    """An open journal. Any thread may use it. Raises `JournalError`. Times are µs since 1970, UTC.

    It keeps positions of a subscription too, see `brokers.positions.Positions`. A file that is broken is put aside for a new
    one: commands issued up to ``lost_until`` may have been in it, and must not be executed.
    """

    def __init__(self, path: Path, *, clock: Callable[[], int] = lambda: time.time_ns() // 1_000) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        #: Set when there are new results.
        self.news = threading.Event()
        self.news.set()
        #: Where the file is that was found broken just now.
        self.put_aside: Path | None = None
        try:
            finish_repair(path)
            try:
                self._connection = _opened(path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self.put_aside = _begin_anew(path, clock())
                self._connection = _opened(path)
            self.lost_until = int(self._connection.execute("SELECT coalesce(max(until), 0) FROM lost").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def recover(self, detail: str, *, application: str | None = None) -> list[Command]:
        """After a death: what had started has an `unknown` end; returns what was only accepted and can still be done."""
        with self._transaction() as execute:
            query = "SELECT body FROM commands WHERE step = ? AND (? IS NULL OR application = ?) ORDER BY time"
            started = execute(query, ("started", application, application)).fetchall()
            accepted = execute(query, ("accepted", application, application)).fetchall()
            for (body,) in started:
                self._write(execute, decode_command(body), "unknown", detail)
        return [decode_command(body) for (body,) in accepted]

    def begin(self, command: Command, step: Step, detail: str = "", *, application: str = "") -> bool:
        """Write down a new command with its first step. False, and nothing is done, when its id is known."""
        with self._transaction() as execute:
            row = (command.id, application, step, self._clock(), command.deadline, detail, encode_command(command))
            if not execute("INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?)", row).rowcount:
                return False
            if step == "started":
                self._tell(execute, command, "accepted", "")
            self._tell(execute, command, step, detail)
            return True

    def advance(self, id: str, step: Step, detail: str = "", *, application: str = "") -> bool:  # noqa: A002
        """Write down the next step. False when the command is unknown or has ended already."""
        with self._transaction() as execute:
            row = execute("SELECT body, step FROM commands WHERE id = ?", (id,)).fetchone()
            if row is None or row[1] in FINAL_STEPS:
                return False
            self._write(execute, decode_command(row[0]), step, detail, application)
            return True

    def known(self, id: str) -> bool:  # noqa: A002
        with self._lock:
            return self._connection.execute("SELECT 1 FROM commands WHERE id = ?", (id,)).fetchone() is not None

    def overdue(self, before: int) -> list[str]:
        """Ids of started commands with a deadline before ``before``."""
        with self._lock:
            rows = self._connection.execute("SELECT id FROM commands WHERE step = 'started' AND deadline < ?", (before,))
            return [row[0] for row in rows]

    def counts(self) -> dict[str, int]:
        """How many remembered commands are at each step."""
        with self._lock:
            return dict(self._connection.execute("SELECT step, count(*) FROM commands GROUP BY step").fetchall())

    def results(self, limit: int = 100) -> list[Result]:
        """What is still to be told, oldest first."""
        with self._lock:
            rows = self._connection.execute("SELECT id, command, body FROM results ORDER BY id LIMIT ?", (limit,)).fetchall()
        return [Result(*row) for row in rows]

    def told(self, results: Sequence[Result]) -> None:
        """These have been taken over by the broker."""
        with self._transaction() as execute:
            for result in results:
                execute("DELETE FROM results WHERE id = ?", (result.id,))

    def forget_old(self) -> None:
        """Forget finished commands long after their deadline."""
        with self._transaction() as execute:
            steps = ", ".join(f"'{step}'" for step in sorted(FINAL_STEPS))
            execute(f"DELETE FROM commands WHERE step IN ({steps}) AND deadline < ?", (self._clock() - _REMEMBER,))  # noqa: S608

    # brokers.positions.Positions

    def load(self, topic: str, partition: int) -> int | None:
        with self._lock:
            row = self._connection.execute(
                "SELECT next FROM positions WHERE topic = ? AND partition = ?", (topic, partition)
            ).fetchone()
        return None if row is None else int(row[0])

    def store(self, positions: Mapping[Place, int]) -> None:
        with self._transaction() as execute:
            for (topic, partition), offset in positions.items():
                execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (topic, partition, offset))

    def _write(self, execute: _Execute, command: Command, step: Step, detail: str, application: str = "") -> None:
        execute(
            "UPDATE commands SET step = ?, time = ?, detail = ?, application = iif(? = '', application, ?) WHERE id = ?",
            (step, self._clock(), detail, application, application, command.id),
        )
        self._tell(execute, command, step, detail)

    def _tell(self, execute: _Execute, command: Command, step: Step, detail: str) -> None:
        state = CommandState(command.id, command.gateway, command.device, step, self._clock(), detail)
        execute("INSERT INTO results VALUES (NULL, ?, ?)", (command.id, encode_command_state(state)))

    @contextmanager
    def _transaction(self) -> Iterator[_Execute]:
        with self._lock:
            execute = self._connection.execute
            try:
                execute("BEGIN IMMEDIATE")
                yield execute
                execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise self._error(error) from error
            except BaseException:
                self._roll_back()
                raise
        self.news.set()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _error(self, error: Exception) -> JournalError:
        if is_damage(error):
            return JournalError(
                f"{self._path}: {error}", remedy="start the agent again: it puts the file aside and begins a new journal"
            )
        return JournalError(f"{self._path}: {error}", remedy=f"see that the disk has room and {self._path} may be written")


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.executescript(_SCHEMA)
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            damage = sqlite3.DatabaseError(found)
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_anew(path: Path, now: int) -> Path:
    """Put a new journal in the place of a broken one; returns where that is kept."""
    draft = path.with_name(f"{path.stem}.draft.sqlite")
    draft.unlink(missing_ok=True)
    with closing(_opened(draft)) as connection:
        connection.execute("INSERT INTO lost VALUES (?)", (now + _SKEW,))
    draft.rename(repaired(path))
    kept = path.with_name(f"{path.stem}.damaged-{now // 1_000}.sqlite")
    finish_repair(path, kept)
    return kept
