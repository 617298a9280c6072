"""SQLite as Python brings it, with a transaction, and so a sync of the disk, for every thousand messages."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.contestants.terms import KEY, TOGETHER, Clock
from brokers.url import parse_url


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    with closing(_open(url, topic)) as connection:
        _store(connection, frames[:1])
        clock = Clock()
        for first in range(1, len(frames), TOGETHER):
            _store(connection, frames[first : first + TOGETHER])
        return clock.rate(len(frames) - 1)


def read(url: str, topic: str, count: int) -> float:
    clock = Clock()
    with closing(_open(url, topic)) as connection:
        query = "SELECT id, key, value FROM messages WHERE id > ? ORDER BY id LIMIT 5000"
        end = connection.execute("SELECT max(id) FROM messages").fetchone()[0]
        last = end - count
        while last < end:
            last = connection.execute(query, (last,)).fetchall()[-1][0]
        return clock.rate(count)


def _open(url: str, topic: str) -> sqlite3.Connection:
    folder = Path(parse_url(url).path)
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / f"{topic}.contestant", isolation_level=None)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, key TEXT, value BLOB)",
    ):
        connection.execute(statement)
    return connection


def _store(connection: sqlite3.Connection, frames: Sequence[bytes]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO messages (key, value) VALUES (?, ?)", [(KEY, frame) for frame in frames])
    connection.execute("COMMIT")
