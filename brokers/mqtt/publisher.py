"""Publishing at quality of service 1, with many messages on their way at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from brokers.backoff import Backoff
from brokers.contract import Message
from brokers.mqtt.call import Call
from brokers.mqtt.caution import MOST, Caution
from brokers.mqtt.connection import Connection
from brokers.mqtt.failures import CLOSED, SILENT, Failure
from brokers.mqtt.names import KEY, mqtt_topic, passing_id
from brokers.mqtt.options import Target
from telemetry.logs import logger

#: Bytes of values on their way at once, unless a single one is larger.
_MOST_BYTES: Final = 16 << 20
#: Topics that are remembered as without subscribers, to be told of once.
_MOST_UNHEARD: Final = 1_000


class MqttPublisher:
    """See `brokers.contract.Publisher`.

    A portion of messages counts as acknowledged when each has its PUBACK and the server has then answered some requests:
    mosquitto sends a PUBACK before what it stands for is on disk. The requests make it write, also what went straight to a
    connected reader.

    What a server turned down, or which message a connection was lost over, makes the next call careful: see `Caution`.
    Once a message was turned down, no more of its topic is sent in the call; other topics are.
    """

    def __init__(self, target: Target, caution: Caution) -> None:
        self._target = target
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._caution = caution
        #: Answers for which it is worth waking up.
        self._enough = 1
        self._news = threading.Event()
        self._unheard: set[str] = set()
        self._log = logger("mqtt", broker=target.shown)

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        """See `brokers.contract.Publisher.publish`."""
        deadline = time.monotonic() + timeout
        call = Call(self._target, messages)
        if wanted := call.to_send(None):
            connection = self._connected(deadline)
            if isinstance(connection, Failure):
                call.fail(wanted, connection)
            else:
                self._send(messages, call, connection, deadline)
        self._warn(call.unheard - self._unheard)
        if error := call.error():
            raise error

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            if self._connection is not None:
                self._connection.close()

    def _connected(self, deadline: float) -> Connection | Failure:
        """A connection that is open, or why there was none until ``deadline``."""
        backoff = Backoff()
        while True:
            with self._lock:
                if self._closed.is_set():
                    return CLOSED
                connection = self._connection
                if connection is None or connection.failure is not None:
                    connection = self._connection = Connection(
                        self._target, passing_id(), changed=self._news.set, on_published=self._published
                    )
            failure = connection.wait_open(min(deadline, time.monotonic() + self._target.options.connect_timeout))
            if failure is None:
                return connection
            connection.close(failure)
            if failure.final or self._closed.wait(max(0.0, min(backoff.next(), deadline - time.monotonic()))):
                return connection.failure or failure
            if time.monotonic() >= deadline:
                return failure

    def _send(self, messages: Sequence[Message], call: Call, connection: Connection, deadline: float) -> None:
        doubts = self._caution.doubts
        others, doubtful = doubts.split(messages, call.to_send(connection.maximum_packet_size))
        self._send_part(messages, others, call, connection, deadline)
        for topic, wanted in doubtful.items():
            if connection.usable:
                self._send_part(messages, wanted, call, connection, deadline, doubtful=True)
                doubts.tried(topic, taken=connection.usable and topic not in call.barred)
            else:
                call.fail(wanted, connection.failure or SILENT)
        doubts.add(call.barred)

    def _send_part(
        self,
        messages: Sequence[Message],
        wanted: Sequence[int],
        call: Call,
        connection: Connection,
        deadline: float,
        *,
        doubtful: bool = False,
    ) -> None:
        """Send these in portions, the first of a doubtful topic alone."""
        first, size = 0, 1 if doubtful else self._caution.portion
        while first < len(wanted):
            portion = wanted[first : first + size]
            if not self._sent(messages, portion, call, connection, deadline):
                # What is still under way must not come after what is published next.
                connection.close(SILENT)
                _take(call, connection)
                call.fail(wanted[first:], connection.failure or SILENT)
                size = 1
                break
            first += len(portion)
            size = min(MOST, 2 * size)
        if not doubtful:
            self._caution.portion = size

    def _sent(
        self, messages: Sequence[Message], portion: Sequence[int], call: Call, connection: Connection, deadline: float
    ) -> bool:
        """Send these; whether all were answered, and may be relied on, before ``deadline``."""
        window = min(connection.receive_maximum, MOST)
        topics: dict[str, str] = {}
        for index in portion:
            topic, key, value = messages[index]
            if call.on_way >= window or call.bytes + len(value) > _MOST_BYTES:
                # Half of it at a time: to wake up for every answer would halve the speed.
                self._take_answers(call, connection, deadline, messages=window // 2, size=_MOST_BYTES // 2)
            if topic in call.barred:
                call.fail([index], call.barred[topic])
                continue
            if not connection.usable or time.monotonic() >= deadline:
                return False
            name = topics.get(topic) or topics.setdefault(topic, mqtt_topic(topic))
            packet_id = connection.publish(name, value, _properties(key) if key else None)
            if packet_id is None:
                return False
            call.sent(index, packet_id)
        if not topics:
            return connection.usable
        self._take_answers(call, connection, deadline, messages=0, size=0)
        return not call.on_way and connection.wait_written(deadline) is None

    def _take_answers(self, call: Call, connection: Connection, deadline: float, *, messages: int, size: int) -> None:
        """Wait for answers until only so many messages with so many bytes are on their way, or no more can come."""
        while True:
            _take(call, connection)
            left = deadline - time.monotonic()
            if (call.on_way <= messages and call.bytes <= size) or left <= 0 or not connection.usable:
                return
            self._news.clear()
            self._enough = max(1, call.on_way - messages)
            if len(connection.published) < self._enough and connection.usable:
                self._news.wait(left)

    def _published(self) -> None:
        connection = self._connection
        if connection is None or len(connection.published) >= self._enough:
            self._news.set()

    def _warn(self, unheard: set[str]) -> None:
        if len(self._unheard) < _MOST_UNHEARD:
            self._unheard |= unheard
            for topic in sorted(unheard):
                self._log.warning("nobody subscribes: the server throws the messages away", topic=topic)


def _take(call: Call, connection: Connection) -> None:
    """Take in what has been answered."""
    while connection.published:
        call.answered(*connection.published.popleft())


@lru_cache(maxsize=4_096)
def _properties(key: str) -> Properties:
    """Properties of a PUBLISH, shared and not to be changed: the library takes longer to make them than to send them."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = (KEY, key)
    return properties
