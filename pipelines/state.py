"""The state file of a job: its watermark behind the sinks, marks, and windows to be computed again.

One SQLite file. What it says is either a fact about the log or a lower bound, so an older copy of it only makes a
restart read more.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from schemas.errors import ConfigurationError
from transforms.admission import ReportedGap
from transforms.admit import BEFORE_ALL, GapRow, Note
from transforms.progress import Mark
from transforms.windowing import Correction

PartitionKey = tuple[str, int]
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), watermark INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS marks (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    mark INTEGER NOT NULL, watermark INTEGER NOT NULL, snapshot BLOB,
    PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS corrections (
    window TEXT NOT NULL, start INTEGER NOT NULL, asked INTEGER NOT NULL,
    PRIMARY KEY (window, start)) WITHOUT ROWID;
"""
#: Gaps as they were reported open; none is taken out while the job runs, because it may have to be closed again.
_GAPS: Final = """
CREATE TABLE IF NOT EXISTS gaps (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, gateway TEXT NOT NULL, epoch INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (topic, partition, gateway, epoch, first, last)) WITHOUT ROWID;
"""
_PRUNE_SECONDS: Final = 30.0


class Asked(NamedTuple):
    """A correction, and how often it had been asked for when it was read."""

    correction: Correction
    asked: int


class JobState:
    """See the module. May be used from any thread; ``directory`` is one job's alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._pruned = 0.0
        self._watermark: int | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"--state {directory}: {error.strerror}", remedy="give a directory that can be written"
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_file)
            raise ConfigurationError(
                f"--state {directory}: another job is using it", remedy="stop that job, or give this one a directory of its own"
            ) from None
        self._db = sqlite3.connect(directory / "state.sqlite", check_same_thread=False, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA + _GAPS)
        row = self._db.execute("SELECT watermark FROM progress").fetchone()
        self._watermark = None if row is None else row[0]

    @property
    def watermark(self) -> int | None:
        """µs since 1970, UTC; None before the first was stored."""
        return self._watermark

    def store(self, notes: Sequence[Note], corrections: Sequence[Correction], watermark: int | None) -> None:
        """Store marks of the notes that carry a snapshot, corrections asked for, and a watermark if it is higher."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (note.topic, note.partition, note.next_offset, note.mark, note.watermark, note.snapshot)
                    for note in notes
                    if note.snapshot is not None
                ],
            )
            self._db.executemany(
                "INSERT INTO corrections VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET asked = asked + 1", corrections
            )
            if watermark is not None and (self._watermark is None or watermark > self._watermark):
                self._db.execute("INSERT OR REPLACE INTO progress VALUES (1, ?)", (watermark,))
                self._watermark = watermark

    def marks(self) -> dict[PartitionKey, list[Mark]]:
        """All marks by partition, by rising offset."""
        found: dict[PartitionKey, list[Mark]] = {}
        with self._lock, closing(self._db.cursor()) as cursor:
            for topic, partition, *mark in cursor.execute(
                "SELECT topic, partition, offset, mark, watermark FROM marks ORDER BY topic, partition, offset"
            ):
                found.setdefault((topic, partition), []).append(Mark(*mark))
        return found

    def snapshot(self, key: PartitionKey, offset: int) -> bytes | None:
        """The state of identity as of ``offset``."""
        with self._lock:
            row = self._db.execute(
                "SELECT snapshot FROM marks WHERE topic = ? AND partition = ? AND offset = ?", (*key, offset)
            ).fetchone()
        return None if row is None else row[0]

    def corrections(self) -> list[Asked]:
        with self._lock:
            rows = self._db.execute("SELECT window, start, asked FROM corrections ORDER BY start").fetchall()
        return [Asked(Correction(window, start), asked) for window, start, asked in rows]

    def settled(self, asked: Iterable[Asked]) -> None:
        """These were worked off; one that was asked for again meanwhile stays."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "DELETE FROM corrections WHERE window = ? AND start = ? AND asked = ?",
                [(entry.correction.window, entry.correction.start, entry.asked) for entry in asked],
            )

    def report_gap(self, row: GapRow) -> None:
        """Note that a gap is about to be written as open."""
        gap = row.gap
        with self._lock, self._db:
            self._db.execute(
                "INSERT OR IGNORE INTO gaps VALUES (?, ?, ?, ?, ?, ?)",
                (row.topic, row.partition, gap.gateway, gap.epoch, gap.first, gap.last),
            )

    def reported_gaps(self) -> dict[PartitionKey, list[ReportedGap]]:
        """Gaps that were reported as open, by partition."""
        found: dict[PartitionKey, list[ReportedGap]] = {}
        with self._lock:
            rows = self._db.execute("SELECT topic, partition, gateway, epoch, first, last FROM gaps").fetchall()
        for topic, partition, *gap in rows:
            found.setdefault((topic, partition), []).append(ReportedGap(*gap))
        return found

    def forget_gaps(self, key: PartitionKey, gaps: Sequence[ReportedGap]) -> None:
        """These have been filled for good."""
        with self._lock, self._db:
            self._db.executemany(
                "DELETE FROM gaps WHERE topic = ? AND partition = ? AND gateway = ? AND epoch = ? AND first = ? AND last = ?",
                [(*key, *gap) for gap in gaps],
            )

    def prune(self, *, restart_before: int, correct_before: int) -> None:
        """Drop marks needed neither to restart from ``restart_before`` nor to compute windows from ``correct_before`` on."""
        if time.monotonic() - self._pruned < _PRUNE_SECONDS:
            return
        self._pruned = time.monotonic()
        newest = "SELECT max(offset) FROM marks AS m WHERE m.topic = marks.topic AND m.partition = marks.partition AND m.mark < ?"
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(f"DELETE FROM marks WHERE offset < ({newest})", (min(correct_before, restart_before),))  # noqa: S608
            self._db.execute(
                f"UPDATE marks SET snapshot = NULL WHERE snapshot IS NOT NULL AND offset < ({newest})",  # noqa: S608
                (restart_before,),
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()
            os.close(self._lock_file)


@lru_cache(maxsize=16)
def open_state(directory: Path) -> JobState:
    """The state in ``directory``, opened once per process. Raises `ConfigurationError` when another process has it."""
    return JobState(directory)


def close_state(directory: Path) -> None:
    """Close the state in ``directory`` if this process has it open."""
    state = open_state(directory)
    open_state.cache_clear()
    state.close()


NOTHING_READ: Final = BEFORE_ALL
