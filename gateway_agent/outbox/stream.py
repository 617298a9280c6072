"""What the outbox remembers of a topic between transactions."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple


class OpenDrop(NamedTuple):
    """The newest `Dropped` record of a topic, which can still be extended while no publisher has seen it."""

    id: int
    epoch: int
    first: int
    last: int
    reason: str


@dataclass(slots=True)
class Stream:
    """A topic's numbers: the row of `streams`, and what need not survive a restart."""

    id: int
    topic: str
    epoch: int
    next_seq: int
    accepted: int = 0
    published: int = 0
    dropped: int = 0
    buffered_events: int = 0
    buffered_bytes: int = 0
    transport: str = ""
    #: It has moved, and its new frames wait for the old transport to be rid of it (`outbox.moving`).
    waits: bool = False
    #: The first and last id of what goes on of it meanwhile, when that is known: no publisher can see other rows of it.
    piece: tuple[int, int] | None = None
    open_drop: OpenDrop | None = None

    def write(self, connection: sqlite3.Connection) -> None:
        """Put the numbers into the running transaction."""
        connection.execute(
            "UPDATE streams SET epoch = ?, next_seq = ?, accepted = ?, published = ?, dropped = ?, buffered_events = ?,"
            " buffered_bytes = ? WHERE id = ?",
            (
                self.epoch,
                self.next_seq,
                self.accepted,
                self.published,
                self.dropped,
                self.buffered_events,
                self.buffered_bytes,
                self.id,
            ),
        )


def read_streams(connection: sqlite3.Connection) -> dict[str, Stream]:
    """All streams by topic, as the last transaction left them."""
    rows = connection.execute(
        "SELECT id, topic, epoch, next_seq, accepted, published, dropped, buffered_events, buffered_bytes FROM streams"
    )
    return {row[1]: Stream(*row) for row in rows}
