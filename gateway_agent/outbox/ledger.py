"""The open file and its numbers: transactions, rows of frames, what every topic has accepted, published, dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

from gateway_agent.outbox.layout import OutboxError, open_file
from gateway_agent.outbox.records import Built
from gateway_agent.outbox.stream import Stream, read_streams

#: What a row takes beside its body, so that very small frames count for what they are.
ROW_BYTES: Final = 64


class Ledger:
    """Used by one thread at a time. What changes it belongs into `transaction` and raises `sqlite3.Error`.

    Opening begins a new epoch: one more than the last, or ``now`` in ms if that is more. ``now`` is µs since 1970, UTC.
    """

    def __init__(self, path: Path, *, gateway: str, max_bytes: int, now: int, transports: Sequence[str]) -> None:
        self.path = path
        self.gateway = gateway
        self.max_bytes = max_bytes
        self.connection = open_file(path)
        self._spoilt = False
        # Per transport the newest frame its publisher has been given, and by itself for streams that go apart from the others.
        self._handed: dict[int, int] = {}
        self._apart: dict[tuple[int, int], int] = {}
        try:
            self.epoch = self._begin_epoch(now)
            self.connection.executemany("INSERT OR IGNORE INTO transports (name) VALUES (?)", [(name,) for name in transports])
            self._next_id = 1 + int(self.connection.execute("SELECT coalesce(max(id), 0) FROM frames").fetchone()[0])
            self._load()
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk when it is left; after an error everything is as it was."""
        self.restore()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            for stream in self._changed.values():
                stream.write(self.connection)
            self.connection.execute("COMMIT")
            self._changed.clear()
        except BaseException:
            self._spoilt = True
            self.restore()
            raise

    def restore(self) -> None:
        """Go back to what is on disk, if that was not possible when a transaction failed: a disk that is away cannot be read."""
        if self._spoilt:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self._load()
            self._spoilt = False

    # Topics and transports

    def stream(self, number: int) -> Stream | None:
        return self._by_id.get(number)

    @property
    def numbers(self) -> Iterable[int]:
        """Those of all streams."""
        return self._by_id.keys()

    def stream_of(self, topic: str) -> Stream:
        """The stream of a topic, made when there is none; its epoch is -1 until it has begun one."""
        stream = self.streams.get(topic)
        if stream is None:
            row = self.connection.execute(
                "INSERT INTO streams VALUES (NULL, ?, -1, 0, 0, 0, 0, 0, 0) RETURNING id", (topic,)
            ).fetchone()
            stream = self.streams[topic] = self._by_id[row[0]] = Stream(row[0], topic, -1, 0)
        return stream

    def transport(self, name: str) -> int:
        """The number of a transport, which must have been added."""
        return self._transports[name]

    # Rows

    def insert(self, stream: Stream, epoch: int, built: Built, *, droppable: bool = False) -> int:
        """Add a frame, or a control record with a count of 0, behind all others; returns its id."""
        number = self.take_ids(1)
        size = len(built.body) + ROW_BYTES
        transport = self._transports[stream.transport] * (-1 if stream.waits else 1)
        sealed = checksum(stream.id, epoch, built)
        self.connection.execute(
            "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, transport, stream.id, epoch, built.first, built.count, droppable, sealed, built.body),
        )
        self.count(stream, built.count, size)
        return number

    def take_ids(self, count: int) -> int:
        """The first of ``count`` ids in a row that are behind all others."""
        first = self._next_id
        self._next_id += count
        return first

    def rewrite(self, number: int, stream: Stream, epoch: int, built: Built, *, grown_from: int = 0) -> None:
        """Put a control record in the place of a row whose bytes are counted as ``grown_from``."""
        size = len(built.body) + ROW_BYTES
        self.connection.execute(
            "UPDATE frames SET first = ?, count = 0, droppable = 0, checksum = ?, body = ? WHERE id = ?",
            (built.first, checksum(stream.id, epoch, built), built.body, number),
        )
        self.count(stream, 0, size - grown_from)

    def delete(self, number: int) -> None:
        self.connection.execute("DELETE FROM frames WHERE id = ?", (number,))

    # What publishers have in hand: they may be sending it right now

    def is_in_hand(self, transport: int, stream: int, number: int) -> bool:
        """Whether the publisher of a transport has been given the frame ``number``."""
        return number <= self._apart.get((transport, stream), self._handed.get(transport, -1))

    def take_in_hand(self, transport: int, number: int, *, stream: int | None = None) -> None:
        """All up to the frame ``number`` are in hand; of one stream alone, if that is given."""
        if stream is None:
            self._handed[transport] = max(number, self._handed.get(transport, -1))
        else:
            self._apart[transport, stream] = max(number, self._apart.get((transport, stream), -1))

    def leave_out(self, transport: int, streams: frozenset[int]) -> None:
        """From now on these, and no others, go apart: of what comes the publisher takes nothing of them."""
        if streams or self._apart:
            handed = self._handed.get(transport, -1)
            others = {key: number for key, number in self._apart.items() if key[0] != transport}
            apart = {(transport, stream): self._apart.get((transport, stream), handed) for stream in streams}
            self._apart = others | apart

    # Numbers

    def count(self, stream: Stream, events: int, size: int) -> None:
        """More, or fewer, events and bytes are buffered."""
        stream.buffered_events += events
        stream.buffered_bytes += size
        self.bytes += size
        self.touch(stream)

    def count_dropped(self, stream: Stream, events: int, reason: str) -> None:
        stream.dropped += events
        self.connection.execute(
            "INSERT INTO dropped VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
            (stream.id, reason, events),
        )
        self.dropped_by_reason[reason] = self.dropped_by_reason.get(reason, 0) + events
        self.touch(stream)

    def recount(self, stream: Stream) -> int:
        """Count anew what is buffered; returns how many events are missing in the sum."""
        events, size = self.connection.execute(
            "SELECT coalesce(sum(count), 0), coalesce(sum(length(CAST(body AS BLOB)) + ?), 0) FROM frames WHERE stream = ?",
            (ROW_BYTES, stream.id),
        ).fetchone()
        self.count(stream, events - stream.buffered_events, size - stream.buffered_bytes)
        return stream.accepted - stream.published - stream.dropped - stream.buffered_events

    def touch(self, stream: Stream) -> None:
        self._changed[stream.id] = stream

    def _begin_epoch(self, now: int) -> int:
        row = self.connection.execute("SELECT gateway, epoch FROM meta").fetchone()
        if row is not None and row[0] != self.gateway:
            raise OutboxError(
                f"{self.path}: belongs to the gateway {row[0]!r}, not to {self.gateway!r}",
                remedy="give the gateway a data directory of its own, or its old id back",
            )
        epoch = max(now // 1_000, 0 if row is None else row[1] + 1)
        if row is None:
            self.connection.execute("INSERT INTO meta VALUES (?, ?)", (self.gateway, epoch))
        else:
            self.connection.execute("UPDATE meta SET epoch = ?", (epoch,))
        return epoch

    def _load(self) -> None:
        before = {one.topic: one for one in self.streams.values()} if hasattr(self, "streams") else {}
        self.streams: dict[str, Stream] = read_streams(self.connection)
        for stream in self.streams.values():
            if stream.topic in before:
                stream.transport, stream.waits = before[stream.topic].transport, before[stream.topic].waits
        self._by_id = {stream.id: stream for stream in self.streams.values()}
        self._changed: dict[int, Stream] = {}
        rows = self.connection.execute("SELECT name, id FROM transports").fetchall()
        self._transports: dict[str, int] = dict(rows)
        names = {number: name for name, number in rows}
        for number, transport in self.connection.execute("SELECT DISTINCT stream, transport FROM frames WHERE transport < 0"):
            if number in self._by_id:
                self._by_id[number].waits = True
                self._by_id[number].transport = names[-transport]
        rows = self.connection.execute("SELECT reason, sum(events) FROM dropped GROUP BY reason").fetchall()
        self.dropped_by_reason: dict[str, int] = dict(rows)
        self.damaged = int(self.connection.execute("SELECT coalesce(max(id), 0) FROM damaged").fetchone()[0])
        self.bytes = sum(stream.buffered_bytes for stream in self.streams.values())


def checksum(stream: int, epoch: int, built: Built) -> int:
    """CRC-32 over a frame and what its row says of it."""
    return crc32(built.body, crc32(b"%d %d %d %d" % (stream, epoch, built.first, built.count)))
