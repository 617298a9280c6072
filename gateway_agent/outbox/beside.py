"""Reading an outbox from beside: also while an agent has it open, or after it died."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway_agent.outbox.layout import OutboxError, failure, readable


@contextmanager
def beside(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the outbox file ``path`` that sees one moment of it. Errors, of its use too, become `OutboxError`."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            connection.text_factory = readable
            connection.execute("BEGIN")
            yield connection
    except sqlite3.DatabaseError as error:
        raise failure(path, error) from error


def gateway_and_epoch(connection: sqlite3.Connection, path: Path) -> tuple[str, int]:
    """Whose it is, and in which epoch. Raises `OutboxError` when no agent has got so far as to say that."""
    row = connection.execute("SELECT gateway, epoch FROM meta").fetchone()
    if row is None:
        raise OutboxError(f"{path}: holds nothing yet: the agent that made it died at once", remedy="start the agent")
    return str(row[0]), int(row[1])
