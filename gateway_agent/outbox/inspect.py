"""What an outbox holds, read from beside: also while an agent has it open."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from gateway_agent.outbox.beside import beside, gateway_and_epoch


def inspect_outbox(path: Path, *, frames: int = 0) -> dict[str, Any]:
    """Counts per topic and transport as JSON values, and the oldest ``frames`` frames. Raises `OutboxError`."""
    with beside(path) as connection:
        connection.row_factory = sqlite3.Row
        return _look(connection, path, frames)


def _look(connection: sqlite3.Connection, path: Path, frames: int) -> dict[str, Any]:
    gateway, epoch = gateway_and_epoch(connection, path)
    topics = connection.execute("SELECT * FROM streams ORDER BY topic").fetchall()
    waiting = connection.execute(
        "SELECT t.name, coalesce(sum(f.count), 0) FROM transports t LEFT JOIN frames f ON abs(f.transport) = t.id GROUP BY t.id"
    ).fetchall()
    dropped = connection.execute("SELECT reason, sum(events) FROM dropped GROUP BY reason").fetchall()
    oldest = connection.execute(
        "SELECT f.id, s.topic, f.epoch, f.first, f.count, length(f.body) AS bytes FROM frames f"
        " JOIN streams s ON s.id = f.stream ORDER BY f.id LIMIT ?",
        (frames,),
    ).fetchall()
    return {
        "gateway": gateway,
        "epoch": epoch,
        "file_bytes": sum(Path(f"{path}{suffix}").stat().st_size for suffix in ("", "-wal") if Path(f"{path}{suffix}").exists()),
        "topics": [{key: row[key] for key in row.keys() if key != "id"} for row in topics],  # noqa: SIM118  (a Row is no dict)
        "transports": {row[0]: row[1] for row in waiting},
        "dropped": {row[0]: row[1] for row in dropped},
        "damaged": connection.execute("SELECT coalesce(max(id), 0) FROM damaged").fetchone()[0],
        "frames": [dict(row) for row in oldest],
    }
