"""`KestrelBroker`: one server, or several that know nothing of each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_log
from brokers.doubts import Doubts
from brokers.errors import BrokerUnavailable
from brokers.kestrel.connection import PORT, Connection, connect, move
from brokers.kestrel.names import fanout_queue_of, queue_of
from brokers.url import BrokerUrl, Host
from schemas.errors import ConfigurationError
from settings import Bytes, Seconds

_NOTES = (
    "for every group of readers the server keeps a fan-out queue from its first poll on; a topic without any is kept nowhere"
    " (fanoutOnly). SIGKILL loses nothing; a power failure what was not yet synced (syncJournal)"
)

#: Naming a queue makes it; looking at its head is the way to name it that changes nothing.
_MAKE: Final = b"get %b/peek\r\n"
_DELETE: Final = b"delete %b\r\n"


class KestrelOptions(msgspec.Struct, frozen=True):
    """What a ``kestrel:`` URL may say after its ``?``."""

    #: Items a reader holds unacknowledged per topic and server: at most the server's maxOpenTransactions.
    open_reads: int = 100
    max_message_bytes: Bytes = Bytes(16_000_000)
    #: Seconds in which a server has to give a sign of life when it owes an answer.
    answer_timeout: Seconds = Seconds(5.0)

    def __post_init__(self) -> None:
        if self.open_reads < 1:
            raise ValueError(f"open_reads must be at least 1, not {self.open_reads}")
        if self.answer_timeout <= 0:
            raise ValueError("answer_timeout must be more than 0")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The servers of a URL, and how to talk to them."""

    url: str
    hosts: tuple[Host, ...]
    options: KestrelOptions
    #: Topics of which a server did not store a message.
    doubts: Doubts = field(default_factory=Doubts, compare=False)

    def unavailable(self, host: Host, topic: str, why: object) -> BrokerUnavailable:
        """For a server that does not answer."""
        address = f"{host.name}:{host.port or PORT}"
        return BrokerUnavailable(
            f"{self.url}: topic {topic!r}: {address}: {why}",
            remedy=f"see that Kestrel runs at {address} and can be reached from here; it is tried again",
        )


class KestrelBroker:
    """See `brokers.contract.Broker`."""

    def __init__(self, url: BrokerUrl) -> None:
        if not url.hosts or url.path:
            raise ConfigurationError(f"{url.redacted}: names no server", remedy="write it as kestrel://host:22133,host:22133")
        if url.user or url.password:
            raise ConfigurationError(
                f"{url.redacted}: Kestrel knows no users and passwords",
                remedy="leave them out, and keep the server's port within a network that you trust",
            )
        self._cluster = Cluster(url.redacted, url.hosts, url.options_as(KestrelOptions))

    @property
    def url(self) -> str:
        return self._cluster.url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=False,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._cluster.options.max_message_bytes,
            notes=_NOTES,
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:  # noqa: ARG002
        """Make the topic's queue on every server; a queue has no partitions. Raises `BrokerUnavailable`."""
        self._tell(_MAKE, {topic: queue_of(topic)}, timeout)

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Make the fan-out queues of ``group`` on every server. Raises `BrokerUnavailable`."""
        self._tell(_MAKE, {topic: fanout_queue_of(topic, group) for topic in topics}, timeout)

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Delete the fan-out queues of ``group`` on every server. Raises `BrokerUnavailable`."""
        self._tell(_DELETE, {topic: fanout_queue_of(topic, group) for topic in topics}, timeout)

    def publisher(self) -> Publisher:
        from brokers.kestrel.publisher import KestrelPublisher

        return KestrelPublisher(self._cluster)

    def log_reader(self) -> LogReader:
        raise not_a_log(self.url)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        """Raises `ConfigurationError` for a topic or group that no queue can be named for."""
        from brokers.kestrel.reader import KestrelReader

        return KestrelReader(self._cluster, {topic: fanout_queue_of(topic, group) for topic in topics})

    def _tell(self, request: bytes, queues: Mapping[str, str], timeout: float) -> None:
        """Send every server ``request`` for each of ``queues``, which are by topic."""
        until = time.monotonic() + timeout
        requests = [request % queue.encode() for queue in queues.values()]
        for host in self._cluster.hosts:
            try:
                connection = connect(host, until=until, closing=threading.Event())
                try:
                    _ask(connection, requests, until)
                finally:
                    connection.close()
            except OSError as error:
                raise self._cluster.unavailable(host, ", ".join(queues), error) from error


def _ask(connection: Connection, requests: Sequence[bytes], until: float) -> None:
    """Raises `OSError` when not all are answered before ``until``."""
    connection.ask(iter(requests), len(requests), within=max(0.0, until - time.monotonic()))
    while connection.expected and connection.failure is None:
        move((connection,), until - time.monotonic())
        while connection.replies:
            line, _ = connection.replies.popleft()
            if line not in (b"END", b"DELETED") and not line.startswith(b"VALUE "):
                raise OSError(f"the server answered {line[:200].decode('latin-1')!r}")
    if connection.failure is not None:
        raise connection.failure
