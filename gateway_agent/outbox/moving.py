"""A topic that moves to another transport: what comes waits until the old one has nothing of it left, so that its order holds.

A waiting row has the number of its transport negated, and no publisher sees it. When the last row of the topic with another
transport is gone, the waiting ones go behind all others of theirs: a publisher never looks back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway_agent.outbox.ledger import Ledger
from gateway_agent.outbox.records import Held
from gateway_agent.outbox.stream import Stream


def move(ledger: Ledger, stream: Stream, transport: str) -> None:
    """From now on the topic's frames are for ``transport``."""
    stream.transport = transport
    number = ledger.transport(transport)
    if stream.waits:
        ledger.connection.execute("UPDATE frames SET transport = ? WHERE stream = ? AND transport < 0", (-number, stream.id))
    elif stream.buffered_bytes:
        stream.waits = _is_elsewhere(ledger, stream, number)


def release(ledger: Ledger, streams: Iterable[int]) -> None:
    """Let those of the topics go on, by the numbers of their streams, whose old transport has nothing of them left."""
    for stream in filter(None, map(ledger.stream, streams)):
        if stream.waits and not _is_elsewhere(ledger, stream, 0):
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


def _release(ledger: Ledger, stream: Stream) -> None:
    execute = ledger.connection.execute
    first, last = execute("SELECT min(id), max(id) FROM frames WHERE transport < 0 AND stream = ?", (stream.id,)).fetchone()
    if first is not None:
        shift = ledger.take_ids(last - first + 1) - first
        execute("UPDATE frames SET id = id + ?, transport = -transport WHERE transport < 0 AND stream = ?", (shift, stream.id))
    stream.waits = False
    # It names a row that is elsewhere now; the next drop begins a record of its own.
    stream.open_drop = None
