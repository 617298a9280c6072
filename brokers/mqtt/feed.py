"""A group's session for one topic: what it has delivered, and what of that is acknowledged."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from paho.mqtt.client import MQTTMessage

from brokers.backoff import Backoff
from brokers.contract import Delivery
from brokers.mqtt.connection import Connection
from brokers.mqtt.failures import CLOSED, SILENT, Failure
from brokers.mqtt.names import KEY, mqtt_topic, session_id
from brokers.mqtt.options import Target
from telemetry.logs import logger

#: Seconds that a connection on which nothing was acknowledged must last before the next one is made at once: readers that
#: take a session from each other and get nowhere slow down.
_LASTING: Final = 10.0
#: Bytes of values that wait to be taken, beyond which no more are read. The window alone does not hold: mosquitto 2.0 sends
#: as many as that for each PUBACK.
_MOST_BYTES: Final = 16 << 20
#: Seconds in which a server confirms the last PUBACKs of a reader that closes.
_FAREWELL: Final = 0.5


class Bell:
    """Wakes a reader up. ``rung`` counts, so that a ring between looking and waiting is not missed."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.rung = 0

    def ring(self) -> None:
        with self.condition:
            self.rung += 1
            self.condition.notify_all()


class Tag(NamedTuple):
    """The tag of a delivery: the connection of its topic that brought it, and its number in that."""

    topic: str
    connection: int
    number: int


@dataclass(slots=True)
class _Arrived:
    delivery: Delivery
    number: int
    #: None for quality of service 0: there is nothing to acknowledge.
    packet_id: int | None
    acknowledged: bool = False


class Feed:
    """One topic of a `brokers.mqtt.reader.MqttReader`.

    A lost connection takes with it what it brought: the server delivers again what was not acknowledged. For the
    thread of the reader, but `close`; what connections do in theirs is kept apart by the bell's condition.
    """

    def __init__(self, target: Target, group: str, topic: str, bell: Bell) -> None:
        self.topic = topic
        self._target = target
        self._name = mqtt_topic(topic)
        self._session = session_id(group, topic)
        self._bell = bell
        self._connection: Connection | None = None
        self._made = 0
        self._made_at = 0.0
        self._request: int | None = None
        self._known = False
        #: Whether the server has the subscription on its disk, as far as is known.
        self._written = True
        self._arrivals = 0
        #: Whether there are PUBACKs that the server was not asked about.
        self._unconfirmed = False
        self._closing = False
        self._waiting: deque[_Arrived] = deque()
        self._waiting_bytes = 0
        self._open: OrderedDict[int, _Arrived] = OrderedDict()
        self._backoff = Backoff()
        self._next_at = 0.0
        self._last: Failure | None = None
        self._log = logger("mqtt", broker=target.shown, topic=topic, group=group, session=self._session)

    @property
    def ready(self) -> bool:
        """Whether the session is there and subscribes."""
        connection, request = self._connection, self._request
        return connection is not None and connection.usable and request is not None and connection.answered(request)

    @property
    def failure(self) -> Failure | None:
        """Why there is no connection, and none is being made."""
        return self._last if self._connection is None else self._connection.failure

    def attend(self) -> float:
        """Connect, subscribe or connect again, without waiting; seconds after which there is more to do."""
        connection = self._connection
        if connection is not None and connection.failure is not None and not connection.failure.final:
            self._lose(connection.failure)
            connection = None
        if connection is None:
            if (pause := self._next_at - time.monotonic()) > 0:
                return pause
            self._connect()
        elif connection.open and self._request is None:
            self._tell(connection)
            self._request = connection.subscribe(self._name)
            if not self._written:
                # What is published from now on comes to this group, even if the server is killed.
                self._request = connection.ask_to_write()
        elif self.ready:
            self._written = True
        elif connection.failure is None:
            left = self._made_at + self._target.options.connect_timeout - time.monotonic()
            if left <= 0:
                connection.close(SILENT)
            return max(0.0, left)
        return self._target.options.connect_timeout

    def refusal(self) -> Failure | None:
        """Why trying again does not help; told once, as someone may mend it at the server."""
        failure = self._connection.failure if self._connection else None
        if failure is None or not failure.final:
            return None
        self._lose(failure)
        return failure

    def _lose(self, failure: Failure) -> None:
        """Forget the connection, and what it brought."""
        if time.monotonic() - self._made_at > _LASTING:
            self._backoff.reset()
        self._next_at = time.monotonic() + self._backoff.next()
        with self._bell.condition:
            self._connection, self._request, self._last = None, None, failure
            self._made += 1
            self._waiting.clear()
            self._waiting_bytes = 0
            self._unconfirmed = False
            self._open.clear()

    def take(self, most: int) -> list[Delivery]:
        """What has come, at most so many."""
        with self._bell.condition:
            was_full, connection = self._full(), self._connection
            taken = [self._waiting.popleft().delivery for _ in range(min(most, len(self._waiting)))]
            self._waiting_bytes -= sum(len(delivery.value) for delivery in taken)
        if was_full and connection is not None:
            connection.go_on()
        return taken

    def acknowledge(self, deliveries: Sequence[Delivery]) -> bool:
        """Send what PUBACKs may be sent. Returns whether the connection that brought these is there.

        They go out in the order of the messages (4.6): one waits for those before it.
        """
        packet_ids: list[int | None] = []
        with self._bell.condition:
            connection = self._connection
            known = [self._find(delivery) for delivery in deliveries]
            for arrived in known:
                if arrived is not None:
                    arrived.acknowledged = True
            while self._open and next(iter(self._open.values())).acknowledged:
                packet_ids.append(self._open.popitem(last=False)[1].packet_id)
        if connection is None:
            return False
        if packet_ids:
            self._backoff.reset()
        for packet_id in packet_ids:
            if packet_id is not None:
                connection.acknowledge(packet_id)
        self._unconfirmed = self._unconfirmed or bool(packet_ids)
        return connection.failure is None and all(map(self._is_current, deliveries))

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Deliver these again, before others."""
        with self._bell.condition:
            again = {arrived.number: arrived for arrived in self._waiting}
            for delivery in deliveries:
                arrived = self._find(delivery)
                if arrived is not None and not arrived.acknowledged:
                    arrived.delivery = delivery._replace(redelivered=True)
                    again[arrived.number] = arrived
            self._waiting = deque(again[number] for number in sorted(again))
            self._waiting_bytes = sum(len(arrived.delivery.value) for arrived in self._waiting)

    def close(self) -> None:
        """End the connection; before that see that the server has had the PUBACKs, if it answers soon."""
        self._closing = True
        connection = self._connection
        if connection is not None and connection.usable and self._unconfirmed:
            self._unconfirmed = False
            connection.wait_answered(connection.ask(), time.monotonic() + _FAREWELL)
        if connection is not None:
            connection.close(CLOSED)

    def _connect(self) -> None:
        made = self._made
        self._made_at = time.monotonic()
        self._connection = Connection(
            self._target,
            self._session,
            session=self._target.options.session_expiry,
            changed=self._bell.ring,
            on_message=lambda message: self._store(made, message),
            full=self._full,
        )

    def _tell(self, connection: Connection) -> None:
        if not connection.resumed and self._known:
            self._log.warning("the server has forgotten the session: what was in it and what was published meanwhile is lost")
        elif not connection.resumed:
            self._log.info("a new session: what was published before does not come to this group")
        self._known = True
        self._written = self._written and connection.resumed

    def _store(self, made: int, message: MQTTMessage) -> None:
        with self._bell.condition:
            if made != self._made or self._closing:
                return
            self._arrivals += 1
            tag = Tag(self.topic, made, self._arrivals)
            delivery = Delivery(self.topic, _key(message), bytes(message.payload), tag, redelivered=message.dup)
            arrived = _Arrived(delivery, tag.number, message.mid if message.qos else None)
            self._open[tag.number] = arrived
            self._waiting.append(arrived)
            self._waiting_bytes += len(delivery.value)

    def _full(self) -> bool:
        """Whether what waits is as much as may wait."""
        enough = len(self._waiting) >= self._target.options.window or self._waiting_bytes >= _MOST_BYTES
        return enough and not self._closing

    def _is_current(self, delivery: Delivery) -> bool:
        """Whether the connection there is now brought it."""
        return _tag(delivery).connection == self._made

    def _find(self, delivery: Delivery) -> _Arrived | None:
        """None when it was acknowledged, or came by an earlier connection."""
        return self._open.get(_tag(delivery).number) if self._is_current(delivery) else None


def _tag(delivery: Delivery) -> Tag:
    if not isinstance(delivery.tag, Tag):
        raise TypeError(f"not a delivery of this broker: {delivery.tag!r}")
    return delivery.tag


def _key(message: MQTTMessage) -> str:
    """The key that the publisher gave; none when it is not one of ours."""
    pairs: Iterable[tuple[str, str]] = getattr(message.properties, "UserProperty", ())
    return next((value for name, value in pairs if name == KEY), "")
