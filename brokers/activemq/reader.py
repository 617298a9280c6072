"""Reading the queues of a group.

Deliveries are acknowledged one by one (``client-individual``): acknowledging up to a message, or in a transaction, would
take along earlier ones that nobody acknowledged. A NACK would put a message into the dead letter queue at once, so what
is rejected is kept here and given out again; the server has it as long as it is not acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from brokers.activemq.failures import SessionFailed, broker_error, named
from brokers.activemq.frames import frame
from brokers.activemq.names import read_from
from brokers.activemq.options import ActiveMqOptions, Address
from brokers.activemq.session import Session, open_session
from brokers.contract import Delivery
from brokers.errors import BrokerUnavailable
from schemas.topics import check_topic

#: Seconds that the server may take to confirm acknowledgements.
_PATIENCE: Final = 30.0


class Tag(NamedTuple):
    """The tag of a delivery: in which session of the reader it came, as which message, and what acknowledges it."""

    session: int
    number: int
    ack: str


class ActiveMqReader:
    """See `brokers.contract.QueueReader`."""

    def __init__(self, address: Address, options: ActiveMqOptions, topics: Sequence[str], group: str) -> None:
        self._address = address
        self._options = options
        self._topics = tuple(dict.fromkeys(map(check_topic, topics)))
        self._group = group
        self._closing = threading.Event()
        self._session: Session | None = None
        self._sessions = 0
        self._count = 0
        #: Numbers of what was given out in this session and is not acknowledged.
        self._open: set[int] = set()
        self._rejected: deque[Delivery] = deque()

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`. Connecting takes ``connect_timeout`` at most, beside ``timeout``."""
        until = time.monotonic() + timeout
        try:
            session = self._connected()
            if self._rejected:
                return [self._rejected.popleft() for _ in range(min(max_messages, len(self._rejected)))]
            return [self._delivery(message) for message in session.take(max_messages, until=until)]
        except SessionFailed as failed:
            self._drop()
            if self._closing.is_set():
                return []
            raise broker_error(self._address.url, self._topics, failed) from failed

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.acknowledge`.

        Raises `BrokerUnavailable` when the connection was lost since: those deliveries come again.
        """
        tags = [_tag(delivery) for delivery in deliveries]
        try:
            if mine := [tag for tag in tags if self._is_open(tag)]:
                self._acknowledge(mine)
        except SessionFailed as failed:
            self._drop()
            raise broker_error(self._address.url, self._topics, failed) from failed
        if lost := sum(tag.session != self._sessions for tag in tags):
            raise BrokerUnavailable(
                f"{self._address.url}: topic {named(self._topics)}: the connection was lost before"
                f" {lost} deliveries were acknowledged",
                remedy="they are delivered again: acknowledge them then",
            )

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Give these out again at the next `poll`, before others. Those of a lost connection come again by themselves."""
        back = {delivery.tag: delivery for delivery in self._rejected}
        for delivery in deliveries:
            tag = _tag(delivery)
            if self._is_open(tag):
                back[tag] = delivery._replace(redelivered=True)
        self._rejected = deque(sorted(back.values(), key=lambda delivery: _tag(delivery).number))

    def close(self) -> None:
        self._closing.set()
        if session := self._session:
            session.close()

    def _acknowledge(self, tags: Sequence[Tag]) -> None:
        if self._session is None:
            raise SessionFailed("the connection was lost")
        ids = list(dict.fromkeys(tag.ack for tag in tags))
        deadline = time.monotonic() + _PATIENCE
        self._session.ask((frame("ACK", {"id": ack}) for ack in ids[:-1]), "ACK", {"id": ids[-1]}, deadline=deadline)
        self._open.difference_update(tag.number for tag in tags)
        self._rejected = deque(delivery for delivery in self._rejected if self._is_open(_tag(delivery)))

    def _is_open(self, tag: Tag) -> bool:
        return tag.session == self._sessions and tag.number in self._open

    def _connected(self) -> Session:
        if self._closing.is_set():
            raise SessionFailed("the reader is closed")
        if self._session is None or not self._session.usable:
            self._drop()
            deadline = time.monotonic() + self._options.connect_timeout
            session = self._session = open_session(self._address, deadline=deadline, ended=self._closing.is_set)
            if self._closing.is_set():
                session.close()
            self._subscribe(session, deadline)
        return self._session

    def _subscribe(self, session: Session, deadline: float) -> None:
        for number, topic in enumerate(self._topics):
            headers = {
                "destination": read_from(topic, self._group),
                "id": str(number),
                "ack": "client-individual",
                "activemq.prefetchSize": str(self._options.prefetch),
            }
            session.ask([], "SUBSCRIBE", headers, deadline=deadline)

    def _drop(self) -> None:
        """Forget a session, and what came in it: the server delivers it again."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._sessions += 1
        self._open.clear()
        self._rejected.clear()

    def _delivery(self, message: Any) -> Delivery:
        headers = message.headers
        self._count += 1
        self._open.add(self._count)
        return Delivery(
            self._topics[int(headers["subscription"])],
            headers.get("key", ""),
            message.body,
            Tag(self._sessions, self._count, headers["ack"]),
            headers.get("redelivered") == "true",
        )


def _tag(delivery: Delivery) -> Tag:
    if not isinstance(delivery.tag, Tag):
        raise TypeError(f"not a delivery of this reader: {delivery.tag!r}")
    return delivery.tag
