"""What one server gets of a call of `publish`, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Final

from brokers.contract import Message
from brokers.kestrel.connection import STORED, Connection
from brokers.kestrel.envelope import head

#: Requests are handed to the socket in pieces of about this many bytes: the server works on one while the next is made.
_PIECE: Final = 1 << 15


class Share:
    """Positions in the messages of the call. After the first message of a topic that is not stored, no more of it is sent."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self.connection: Connection | None = None
        self._sent: list[int] = []

    @property
    def waiting(self) -> Connection | None:
        """The connection on which something is still to come."""
        connection = self.connection
        if connection is None or connection.failure is not None or not (connection.expected or connection.writing):
            return None
        return connection

    def ask(
        self,
        connection: Connection,
        messages: Sequence[Message],
        queues: Mapping[str, bytes],
        *,
        run: bytes,
        numbers: count[int],
        within: float,
    ) -> None:
        """Begin to send."""
        self.connection = connection
        connection.turned_down = False
        connection.ask(self._requests(connection, messages, queues, run, numbers), 0, within=within)

    @property
    def all_stored(self) -> bool:
        replies = self.connection.replies if self.connection is not None else ()
        return len(replies) == replies.count(STORED) == len(self.members)

    def lines(self) -> dict[int, bytes]:
        """What was answered, by position."""
        replies = self.connection.replies if self.connection is not None else ()
        return dict(zip(self._sent, (line for line, _ in replies), strict=False))

    def _requests(
        self, connection: Connection, messages: Sequence[Message], queues: Mapping[str, bytes], run: bytes, numbers: count[int]
    ) -> Iterator[bytes]:
        """The requests, in pieces."""
        barred: set[str] = set()
        parts: list[bytes] = []
        size = 0
        for index in self.members:
            topic, key, value = messages[index]
            if topic in barred:
                continue
            begin = head(run, next(numbers), key.encode())
            length = len(begin) + len(value)
            parts.append(b"set %b 0 0 %d\r\n%b%b\r\n" % (queues[topic], length, begin, value))
            self._sent.append(index)
            size += length
            if size >= _PIECE:
                connection.expected += len(parts)
                yield b"".join(parts)
                parts.clear()
                size = 0
                if connection.turned_down:
                    barred = {messages[place].topic for place, line in self.lines().items() if line != STORED[0]}
        connection.expected += len(parts)
        yield b"".join(parts)
