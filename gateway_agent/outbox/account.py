"""What an outbox has accepted and what of it still waits, read from beside: also while an agent has it open, or after it died."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from pathlib import Path

from gateway_agent.outbox.beside import beside, gateway_and_epoch
from schemas.control import Dropped, EpochStart, decode_control
from schemas.errors import FrameError
from schemas.ledger import GatewayLedger, TopicLedger, Waiting


def account_of(path: Path) -> GatewayLedger:
    """The ledger of the outbox file ``path``. Bodies of frames are not read. Raises `OutboxError`."""
    with beside(path) as connection:
        return _read(connection, gateway_and_epoch(connection, path)[0])


def _read(connection: sqlite3.Connection, gateway: str) -> GatewayLedger:
    waiting = _waiting(connection)
    started: defaultdict[int, list[EpochStart]] = defaultdict(list)
    given_up: defaultdict[int, list[Dropped]] = defaultdict(list)
    for stream, body in connection.execute("SELECT stream, CAST(body AS BLOB) FROM frames WHERE count = 0 ORDER BY id"):
        try:
            record = decode_control(body)
        except FrameError:
            continue  # damaged: the publisher will set it aside
        if isinstance(record, EpochStart):
            started[stream].append(record)
        else:
            given_up[stream].append(record)
    dropped: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for stream, reason, events in connection.execute("SELECT stream, reason, events FROM dropped"):
        dropped[stream][reason] = events
    rows = connection.execute("SELECT id, topic, epoch, next_seq, accepted, buffered_events FROM streams ORDER BY topic")
    topics = tuple(
        TopicLedger(
            topic,
            epoch,
            next_seq,
            accepted,
            buffered,
            waiting=tuple(waiting[stream]),
            dropped=dropped[stream],
            started=tuple(started[stream]),
            given_up=tuple(given_up[stream]),
        )
        for stream, topic, epoch, next_seq, accepted, buffered in rows
    )
    return GatewayLedger(gateway, time.time_ns() // 1_000, topics)


def _waiting(connection: sqlite3.Connection) -> defaultdict[int, list[Waiting]]:
    """Runs of frames by stream, in their order."""
    found: defaultdict[int, list[Waiting]] = defaultdict(list)
    for stream, epoch, first, count in connection.execute(
        "SELECT stream, epoch, first, count FROM frames WHERE count > 0 ORDER BY id"
    ):
        runs = found[stream]
        if runs and (runs[-1].epoch, runs[-1].next) == (epoch, first):
            runs[-1] = Waiting(epoch, runs[-1].first, first + count)
        else:
            runs.append(Waiting(epoch, first, first + count))
    return found
