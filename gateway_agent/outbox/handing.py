"""Handing frames to publishers in their order, and letting go of those a broker has taken over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway_agent.outbox.ledger import ROW_BYTES, Ledger, checksum
from gateway_agent.outbox.records import Built, Held


class Handed(NamedTuple):
    """Frames in order, and the ids of damaged ones met among them."""

    frames: list[Held]
    damaged: list[int]


def hand_out(ledger: Ledger, transport: str, *, after: int, max_frames: int, max_bytes: int) -> Handed:
    """Frames of a transport behind the id ``after``: at least one if there is one. They are in hand from now on."""
    number = ledger.transport(transport)
    rows = ledger.connection.execute(
        "SELECT id, stream, epoch, first, count, checksum, body FROM frames WHERE transport = ? AND id > ? ORDER BY id LIMIT ?",
        (number, after, max_frames),
    )
    handed = Handed([], [])
    left, last = max_bytes, after
    for row in rows:
        row_id, stream_id, epoch, first, count, sealed, body = row
        stream = ledger.stream(stream_id)
        if stream is None or not _intact(stream_id, tuple(row[2:5]), body, sealed):
            handed.damaged.append(row_id)
            continue
        left -= len(body)
        if left < 0 and handed.frames:
            break
        last = row_id
        handed.frames.append(Held(row_id, stream_id, stream.topic, epoch, first, count, len(body) + ROW_BYTES, body))
    rows.close()
    if not handed.damaged:
        ledger.in_hand[number] = max(last, ledger.in_hand.get(number, -1))
    return handed


def let_go(ledger: Ledger, published: Iterable[Held]) -> None:
    """Forget frames that their broker has taken over. One that is gone already counts but once."""
    for one in published:
        gone = ledger.connection.execute("DELETE FROM frames WHERE id = ?", (one.id,)).rowcount
        stream = ledger.stream(one.stream)
        if gone and stream is not None:
            stream.published += one.count
            ledger.count(stream, -one.count, -one.size)


def _intact(stream: int, numbers: tuple[object, ...], body: object, sealed: object) -> bool:
    epoch, first, count = numbers
    if not (isinstance(epoch, int) and isinstance(first, int) and isinstance(count, int) and isinstance(body, bytes)):
        return False
    return checksum(stream, epoch, Built(first, count, body)) == sealed
