"""A topic that moves to another transport: what comes waits until the old one has nothing of it left, so that its order holds.

A waiting row has the number of its transport negated, and no publisher sees it. When the last row of the topic that can be
seen is gone, waiting ones go behind all others of their transport, for a publisher never looks back: a piece of bounded size
in one transaction, and the next when that is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gateway_agent.outbox.ledger import Ledger
from gateway_agent.outbox.records import Held
from gateway_agent.outbox.stream import Stream

#: Rows that are let go on together, and bytes of them unless the first has more: SQLite writes all of a row anew.
_PIECE_ROWS: Final = 1_024
_PIECE_BYTES: Final = 4 << 20


def move(ledger: Ledger, stream: Stream, transport: str) -> None:
    """From now on the topic's frames are for ``transport``."""
    stream.transport = transport
    number = ledger.transport(transport)
    if stream.waits:
        ledger.connection.execute("UPDATE frames SET transport = ? WHERE stream = ? AND transport < 0", (-number, stream.id))
    elif stream.buffered_bytes:
        stream.waits = _is_elsewhere(ledger, stream, number)


def release(ledger: Ledger, streams: Iterable[int]) -> None:
    """Let those of the topics go on, by the numbers of their streams, of which no publisher can see anything."""
    for stream in filter(None, map(ledger.stream, streams)):
        if stream.waits and not _is_seen(ledger, stream):
            _release(ledger, stream)


def take_along(ledger: Ledger, records: Sequence[Held]) -> None:
    """Control records that the old transport refuses go with their topic, when they are all that is left there."""
    execute = ledger.connection.execute
    for number in {record.stream for record in records}:
        stream = ledger.stream(number)
        if stream is None or not stream.waits:
            continue
        of_it = {record.id for record in records if record.stream == number}
        left = execute("SELECT id FROM frames WHERE transport > 0 AND stream = ? LIMIT ?", (number, len(of_it) + 1)).fetchall()
        if all(row[0] in of_it for row in left):
            transport = -ledger.transport(stream.transport)
            execute("UPDATE frames SET transport = ? WHERE transport > 0 AND stream = ?", (transport, number))


def _is_elsewhere(ledger: Ledger, stream: Stream, number: int) -> bool:
    """Whether rows of the topic are with a transport other than ``number``."""
    found = ledger.connection.execute(
        "SELECT 1 FROM frames WHERE transport > 0 AND transport <> ? AND stream = ? LIMIT 1", (number, stream.id)
    ).fetchone()
    return found is not None


def _is_seen(ledger: Ledger, stream: Stream) -> bool:
    """Whether a publisher can see rows of a topic that waits."""
    if stream.piece is None:
        return _is_elsewhere(ledger, stream, 0)
    found = ledger.connection.execute(
        "SELECT 1 FROM frames WHERE id BETWEEN ? AND ? AND transport > 0 AND stream = ? LIMIT 1", (*stream.piece, stream.id)
    ).fetchone()
    return found is not None


def _release(ledger: Ledger, stream: Stream) -> None:
    waiting = ledger.connection.execute(
        "SELECT id, coalesce(length(body), 0) FROM frames WHERE transport = ? AND stream = ? ORDER BY id LIMIT ?",
        (-ledger.transport(stream.transport), stream.id, _PIECE_ROWS + 1),
    ).fetchall()
    piece: list[int] = []
    size = 0
    for number, length in waiting[:_PIECE_ROWS]:
        size += length
        if piece and size > _PIECE_BYTES:
            break
        piece.append(number)
    first = ledger.take_ids(len(piece))
    ledger.connection.executemany(
        "UPDATE frames SET id = ?, transport = -transport WHERE id = ?", [(first + at, number) for at, number in enumerate(piece)]
    )
    stream.waits = len(piece) < len(waiting)
    stream.piece = (first, first + len(piece) - 1) if stream.waits else None
    # It names a row that is elsewhere now; the next drop begins a record of its own.
    stream.open_drop = None
