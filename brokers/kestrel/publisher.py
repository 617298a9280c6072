"""Putting messages into queues: all of a call in flight at once, one connection per server."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

from brokers.contract import Message
from brokers.errors import BrokerError, BrokerRefused, BrokerUnavailable, not_stored
from brokers.kestrel.broker import Cluster
from brokers.kestrel.connection import LOOK, STORED, Attempt, Connection, move
from brokers.kestrel.envelope import LONGEST_KEY, RUN_BYTES
from brokers.kestrel.names import queue_of
from brokers.kestrel.share import Share
from schemas.errors import ConfigurationError, IoTCloudError

#: Seconds between looks at whether one more server is connected, while others are at work.
_SOON: Final = 0.02


class KestrelPublisher:
    """See `brokers.contract.Publisher`. A key's messages go to the server CRC-32(key) mod their number."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}
        self._queues: dict[str, bytes] = {}
        self._run = os.urandom(RUN_BYTES)
        self._numbers = itertools.count(1)

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        until = time.monotonic() + timeout
        failures: dict[int, IoTCloudError] = {}
        refused: dict[int, IoTCloudError] = {}
        with self._lock:
            others, doubtful = self._cluster.doubts.split(messages, self._fitting(messages, refused))
            failures |= self._send(messages, others, until)
            if doubtful:
                failures |= self._send_doubtful(messages, doubtful, until)
        if failures or refused:
            raise not_stored(len(messages), failures, refused)

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            for server in tuple(self._connections):
                self._drop(server)

    def _fitting(self, messages: Sequence[Message], refused: dict[int, IoTCloudError]) -> list[int]:
        """Positions in ``messages``; those that no server will ever take go to ``refused``."""
        fitting: list[int] = []
        limit = self._cluster.options.max_message_bytes
        for index, (topic, key, value) in enumerate(messages):
            if topic not in self._queues or len(value) > limit or len(key) > LONGEST_KEY // 4:
                try:
                    self._queues[topic] = queue_of(topic).encode()
                    self._check_size(messages[index], key.encode())
                except (ConfigurationError, BrokerRefused) as error:
                    refused[index] = error
                    continue
            fitting.append(index)
        return fitting

    def _shares(self, messages: Sequence[Message], members: Sequence[int]) -> dict[int, Share]:
        """``members`` by server, in order."""
        shares: dict[int, Share] = {}
        count = len(self._cluster.hosts)
        for index in members:
            server = crc32(messages[index].key.encode()) % count
            if server not in shares:
                shares[server] = Share()
            shares[server].members.append(index)
        return shares

    def _send_doubtful(
        self, messages: Sequence[Message], topics: Mapping[str, Sequence[int]], until: float
    ) -> dict[int, IoTCloudError]:
        """Of each topic, and for each server, the first message, and what follows it only when that is stored."""
        shares = [(topic, share.members) for topic, some in topics.items() for share in self._shares(messages, some).values()]
        failures = self._send(messages, [members[0] for _, members in shares], until)
        failed = {topic for topic, members in shares if members[0] in failures}
        for topic in topics:
            self._cluster.doubts.tried(topic, taken=topic not in failed)
        rest: list[int] = []
        for _, members in shares:
            if error := failures.get(members[0]):
                failures.update(dict.fromkeys(members, error))
            else:
                rest += members[1:]
        return failures | self._send(messages, sorted(rest), until)

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

    def _send(self, messages: Sequence[Message], members: Sequence[int], until: float) -> dict[int, IoTCloudError]:
        """Send to all servers at once, none waiting for another; what is not known to be stored, and why."""
        shares = self._shares(messages, members)
        attempts: dict[int, Attempt] = {}
        why: dict[int, object] = {}
        news = threading.Event()
        for server, share in shares.items():
            there = self._connections.get(server)
            if there is not None and there.usable:
                self._ask(share, there, messages, until)
            else:
                self._drop(server)
                attempts[server] = Attempt(self._cluster.hosts[server], until=until, closing=self._closing, news=news)
        while not self._closing.is_set():
            news.clear()
            why |= {server: attempt.failure for server, attempt in attempts.items() if attempt.failure is not None}
            for server in why.keys() & attempts.keys():
                del attempts[server]
            for server, connection in [(server, made) for server, attempt in attempts.items() if (made := attempt.take())]:
                del attempts[server]
                self._connections[server] = connection
                self._ask(shares[server], connection, messages, until)
            waiting = [busy for share in shares.values() if (busy := share.waiting)]
            left = until - time.monotonic()
            if left <= 0 or not (waiting or attempts):
                break
            if waiting:
                move(waiting, min(left, _SOON) if attempts else left)
            else:
                news.wait(min(left, LOOK))
        for attempt in attempts.values():
            attempt.give_up()
        failures: dict[int, IoTCloudError] = {}
        for server, share in shares.items():
            failures |= self._failures(server, messages, share, why.get(server))
        return failures

    def _ask(self, share: Share, connection: Connection, messages: Sequence[Message], until: float) -> None:
        within = max(0.0, until - time.monotonic())
        share.ask(connection, messages, self._queues, run=self._run, numbers=self._numbers, within=within)

    def _failures(self, server: int, messages: Sequence[Message], share: Share, why: object) -> dict[int, IoTCloudError]:
        """What is not known to be stored, with everything of the same topic and key that came after it.

        These later ones may be stored: repeating them as well is what keeps the order of their key.
        """
        all_stored = share.all_stored
        lines = {} if all_stored else share.lines()
        connection = share.connection
        if connection is not None:
            connection.replies.clear()
        if all_stored:
            return {}
        failures: dict[int, IoTCloudError] = {}
        broken: dict[tuple[str, str], IoTCloudError] = {}
        barred: dict[str, IoTCloudError] = {}
        why = why or (connection and connection.failure)
        why = why or ("closed" if self._closing.is_set() else "no answer before the deadline")
        for index in share.members:
            message = messages[index]
            line = lines.get(index, b"")
            error = broken.get((message.topic, message.key))
            if error is None and line != STORED[0]:
                error = self._refusal(message, line) if line else barred.get(message.topic)
                error = error or self._unavailable(server, message, why)
                if line:
                    barred.setdefault(message.topic, error)
                if line not in (b"", b"NOT_STORED"):
                    why = line.decode("latin-1")
            if error is not None:
                broken[message.topic, message.key] = failures[index] = error
        self._cluster.doubts.add(barred)
        unsettled = connection is not None and (connection.expected or connection.writing or connection.failure is not None)
        if unsettled or set(lines.values()) - {b"STORED", b"NOT_STORED"}:
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
