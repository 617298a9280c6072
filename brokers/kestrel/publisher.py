"""Putting messages into queues: all of a call in flight at once, one connection per server."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final
from zlib import crc32

from brokers.contract import Message
from brokers.errors import BrokerError, BrokerRefused, BrokerUnavailable, PublishError
from brokers.kestrel.broker import Cluster
from brokers.kestrel.connection import STORED, Closed, Connection, connect, move
from brokers.kestrel.envelope import LONGEST_KEY, RUN_BYTES, head
from brokers.kestrel.names import queue_of
from schemas.errors import ConfigurationError, IoTCloudError

#: Requests are handed to the socket in pieces of about this many bytes: the server works on one while the next is made.
_PIECE: Final = 1 << 15


class KestrelPublisher:
    """See `brokers.contract.Publisher`. A key's messages go to the server CRC-32(key) mod their number."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}
        self._queues: dict[str, bytes] = {}
        self._run = os.urandom(RUN_BYTES)
        self._published = 0

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        until = time.monotonic() + timeout
        failures: dict[int, IoTCloudError] = {}
        refused: dict[int, IoTCloudError] = {}
        with self._lock:
            asked: dict[int, list[int]] = {}
            for server, members in self._by_server(messages, refused).items():
                try:
                    connection = self._connected(server, until)
                except OSError as error:
                    for index in members:
                        failures[index] = self._unavailable(server, messages[index], error)
                    continue
                connection.ask(self._requests(messages, members), len(members), within=timeout)
                asked[server] = members
            self._wait([self._connections[server] for server in asked], until)
            for server, members in asked.items():
                failures |= self._failures(server, messages, members)
        if failures or refused:
            raise _publish_error(len(messages), failures, refused)

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            for server in tuple(self._connections):
                self._drop(server)

    def _by_server(self, messages: Sequence[Message], refused: dict[int, IoTCloudError]) -> dict[int, list[int]]:
        """Positions in ``messages`` by server, in order; those that no server will ever take go to ``refused``."""
        servers: dict[int, list[int]] = {}
        count = len(self._cluster.hosts)
        limit = self._cluster.options.max_message_bytes
        for index, (topic, key, value) in enumerate(messages):
            encoded = key.encode()
            if topic not in self._queues or len(value) > limit or len(encoded) > LONGEST_KEY:
                try:
                    self._queues[topic] = queue_of(topic).encode()
                    self._check_size(messages[index], encoded)
                except (ConfigurationError, BrokerRefused) as error:
                    refused[index] = error
                    continue
            servers.setdefault(crc32(encoded) % count, []).append(index)
        return servers

    def _check_size(self, message: Message, key: bytes) -> None:
        limit = self._cluster.options.max_message_bytes
        where = f"{self._cluster.url}: topic {message.topic!r}"
        if len(message.value) > limit:
            raise BrokerRefused(
                f"{where}: a message of {len(message.value)} bytes is too large, {limit} are allowed",
                remedy="raise max_message_bytes in the URL, and the server's maxItemSize where it has one",
            )
        if len(key) > LONGEST_KEY:
            raise BrokerRefused(f"{where}: a key of {len(key)} bytes is too long", remedy=f"at most {LONGEST_KEY} bytes")

    def _connected(self, server: int, until: float) -> Connection:
        """A connection to a server, a new one when the old one has ended. Raises `OSError`."""
        if self._closing.is_set():
            raise Closed("the publisher is closed")
        connection = self._connections.get(server)
        if connection is None or not connection.usable:
            self._drop(server)
            connection = connect(self._cluster.hosts[server], until=until, closing=self._closing)
            self._connections[server] = connection
        return connection

    def _requests(self, messages: Sequence[Message], members: Sequence[int]) -> Iterator[bytes]:
        """The requests for ``members``, in pieces."""
        parts: list[bytes] = []
        size = 0
        for index in members:
            topic, key, value = messages[index]
            self._published += 1
            begin = head(self._run, self._published, key.encode())
            length = len(begin) + len(value)
            parts.append(b"set %b 0 0 %d\r\n%b%b\r\n" % (self._queues[topic], length, begin, value))
            size += length
            if size >= _PIECE:
                yield b"".join(parts)
                parts.clear()
                size = 0
        yield b"".join(parts)

    def _wait(self, connections: Sequence[Connection], until: float) -> None:
        """Until all has been answered, or no answer is to be expected any more."""
        while waiting := [each for each in connections if each.expected and each.failure is None]:
            left = until - time.monotonic()
            if self._closing.is_set() or left <= 0:
                return
            move(waiting, left)

    def _failures(self, server: int, messages: Sequence[Message], members: Sequence[int]) -> dict[int, IoTCloudError]:
        """What is not known to be stored, with everything of the same topic and key that came after it.

        These later ones may be stored: repeating them as well is what keeps the order of their key.
        """
        connection = self._connections[server]
        all_stored = len(connection.replies) == connection.replies.count(STORED) == len(members)
        lines = [] if all_stored else [line for line, _ in connection.replies]
        connection.replies.clear()
        if all_stored:
            return {}
        failures: dict[int, IoTCloudError] = {}
        broken: dict[tuple[str, str], IoTCloudError] = {}
        why: object = connection.failure or ("closed" if self._closing.is_set() else "no answer before the deadline")
        for position, index in enumerate(members):
            message = messages[index]
            line = lines[position] if position < len(lines) else b""
            error = broken.get((message.topic, message.key))
            if error is None and line != b"STORED":
                error = self._refusal(message, line) if line else self._unavailable(server, message, why)
                if line not in (b"", b"NOT_STORED"):
                    why = line.decode("latin-1")
            if error is not None:
                broken[message.topic, message.key] = failures[index] = error
        if connection.expected or connection.failure is not None or set(lines) - {b"STORED", b"NOT_STORED"}:
            self._drop(server)
        return failures

    def _refusal(self, message: Message, line: bytes) -> BrokerError:
        where = f"{self._cluster.url}: topic {message.topic!r}"
        if line == b"NOT_STORED":
            return BrokerUnavailable(
                f"{where}: the server did not store a message of {len(message.value)} bytes",
                remedy="its queue is full, or the message is larger than its maxItemSize: give the queue no limits, and"
                " max_message_bytes in the URL the size that the server takes",
            )
        answer = line.decode("latin-1")[:200]
        return BrokerUnavailable(
            f"{where}: the server answered {answer!r}", remedy="see its status and its log; it is tried again"
        )

    def _unavailable(self, server: int, message: Message, why: object) -> BrokerUnavailable:
        return self._cluster.unavailable(self._cluster.hosts[server], message.topic, why)

    def _drop(self, server: int) -> None:
        if connection := self._connections.pop(server, None):
            connection.close()


def _publish_error(count: int, failures: dict[int, IoTCloudError], refused: dict[int, IoTCloudError]) -> PublishError:
    first = next(iter((failures or refused).values()))
    unacknowledged = tuple(sorted({*failures, *refused}))
    return PublishError(
        f"{len(unacknowledged)} of {count} messages not stored: {first.message}",
        unacknowledged=unacknowledged,
        refused=tuple(sorted(refused)),
        remedy=first.remedy,
    )
