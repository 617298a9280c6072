"""The broker contract: what every package under `brokers` implements, and nothing else.

Two families. A *log* is read by partition and offset and can be read again. A *queue* hands out
deliveries that are acknowledged one by one. Publishing is the same for both. Which family a broker
belongs to, and what it cannot do, is said by its `Capabilities`. The suite in
`tests/brokers/contract.py` holds every implementation to this page.

All methods are called from one thread at a time, except `close`, which any thread may call at any
moment and which makes a blocked call return or raise within a second. Every wait has the deadline
given by ``timeout`` (seconds) and raises `brokers.errors.BrokerUnavailable` when it passes.
Append times are µs since 1970, UTC, by the broker's own clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.errors import ConfigurationError


class Message(NamedTuple):
    """What is published. Messages of one topic and key stay in order."""

    topic: str
    key: str
    value: bytes


class Record(NamedTuple):
    """What is read from a log."""

    offset: int
    append_time: int
    key: str
    value: bytes


class Delivery(NamedTuple):
    """What is read from a queue. ``tag`` means something to the broker alone."""

    topic: str
    key: str
    value: bytes
    tag: Hashable
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do. A limit that is None is not known or not there."""

    #: Read by `LogReader`; otherwise by `QueueReader`.
    log: bool
    #: A topic comes into being when it is first published to.
    creates_topics: bool
    #: Acknowledged messages survive SIGKILL of the server.
    durable: bool
    max_message_bytes: int | None = None
    #: Why something above is missing, or what an operator should know.
    notes: str = ""


class Publisher(Protocol):
    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        """Return when the broker has taken responsibility for all messages.

        Otherwise raise `PublishError`, which names those it has not; publishing these again, in
        their order, never changes the order of the rest of their key.
        """

    def close(self) -> None: ...


class LogReader(Protocol):
    def partitions(self, topic: str) -> Sequence[int]:
        """The partitions a topic has now; empty while the topic does not exist."""

    def begin_offset(self, topic: str, partition: int) -> int:
        """The first offset still kept (the end offset when none is)."""

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will have."""

    def offset_for_time(self, topic: str, partition: int, time: int) -> int:
        """The first offset appended at or after ``time`` (µs since 1970, UTC); the end offset when there is none."""

    def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int, timeout: float = 0.0
    ) -> Sequence[Record]:
        """Records from ``offset`` on, in order: at least one when there is one, whatever its size.

        Waits up to ``timeout`` for the first and then returns an empty sequence. Offsets rise but
        need not be without holes. Raises `OffsetExpired` when ``offset`` is no longer kept, and `BrokerRefused` when
        it is beyond the end: the log is not the one it was taken from.
        """

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Note the next offset a group will read, for the broker's own tools to show lag. Nothing relies on it."""

    def close(self) -> None: ...


class QueueReader(Protocol):
    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """Deliveries in order of their key; empty when none came within ``timeout``.

        What is not acknowledged when the reader closes or dies is delivered again.
        """

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the broker that these need not be delivered again.

        Returns when it knows that, if its protocol says so; otherwise those come again that a connection swallows which breaks
        now. Raises `BrokerUnavailable` when the connection that brought some of these is known to be lost.
        """

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Give these back, to be delivered again."""

    def close(self) -> None: ...


class Broker(Protocol):
    """A broker one can connect to. Making one opens nothing; its parts connect when first used."""

    @property
    def url(self) -> str:
        """The URL it was made from, without anything secret."""

    @property
    def capabilities(self) -> Capabilities: ...

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:
        """Make a topic. No error when it is there already, with as many partitions or more."""

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """See that what is published to ``topics`` from now on is kept for ``group``, which need not be reading yet.

        Topics that are missing are made where the broker lets one. A reader of the group that is at work goes on. Nothing
        to do for a log. Raises `BrokerUnavailable` and `BrokerRefused`.
        """

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Undo `keep`, and what reading has made: what is kept of ``topics`` for ``group`` goes, and no more is kept.

        No reader of the group may be at work. Nothing happens where there is no such group, nor for a log. Raises
        `BrokerUnavailable` and `BrokerRefused`.
        """

    def publisher(self) -> Publisher: ...

    def log_reader(self) -> LogReader:
        """Raises `ConfigurationError` for a queue."""

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        """Readers of one ``group`` share the deliveries; every group gets all. Raises `ConfigurationError` for a log."""


def require_log(broker: Broker) -> LogReader:
    """A log reader of ``broker``. Raises `ConfigurationError` with the remedy when it is a queue."""
    if not broker.capabilities.log:
        raise not_a_log(broker.url)
    return broker.log_reader()


def not_a_log(url: str) -> ConfigurationError:
    """What a queue says when it is asked for a log reader."""
    return ConfigurationError(
        f"{url} is a queue and cannot be read again",
        remedy="move its frames into a log with 'iotcloud relay' and read that",
    )


def not_a_queue(url: str) -> ConfigurationError:
    """What a log says when it is asked for a queue reader."""
    return ConfigurationError(
        f"{url} is a log: it hands out no deliveries",
        remedy="follow it with brokers.subscription.subscribe, which keeps a position",
    )
