"""`RabbitBroker`: topics as routing keys of one exchange, a queue for every group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_log
from brokers.doubts import Doubts
from brokers.rabbitmq.address import address_of
from brokers.rabbitmq.connector import Connector
from brokers.rabbitmq.failures import LinkFailed
from brokers.rabbitmq.kept import Kept
from brokers.rabbitmq.options import RabbitOptions
from brokers.rabbitmq.publisher import RabbitPublisher
from brokers.rabbitmq.reader import RabbitReader
from brokers.rabbitmq.topology import Topology
from brokers.url import BrokerUrl
from schemas.errors import ConfigurationError
from schemas.topics import check_topic


class RabbitBroker:
    """See `brokers.contract.Broker`."""

    def __init__(self, url: BrokerUrl, options: RabbitOptions) -> None:
        self._address = address_of(url, options)
        self._doubts = Doubts()
        self._kept = Kept()
        # pika logs every failed attempt with tracebacks; our errors say the same, once.
        library = logging.getLogger("pika")
        if library.level == logging.NOTSET:
            library.setLevel(logging.CRITICAL)

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=False,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._address.options.max_message_bytes,
            notes="a group gets what is published after its first keep or poll; what no group is there for is dropped;"
            " several readers of a group keep the order of a key only with single_active_consumer=true",
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:  # noqa: ARG002
        """Make the exchange that all topics have in common. There are no partitions.

        Raises `BrokerUnavailable`, `BrokerRefused`, and `ConfigurationError` for a wrong name.
        """
        self._administer([topic], timeout, lambda *_: None)

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Make the group's queues. Raises as `create_topic` does."""
        self._administer(topics, timeout, lambda topology, topic, deadline: topology.queue(group, topic, deadline))
        for topic in topics:
            self._kept.add(topic, group)

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Delete the group's queues. Raises as `create_topic` does."""
        for topic in topics:
            self._kept.remove(topic, group)
        self._administer(topics, timeout, lambda topology, topic, deadline: topology.delete(group, topic, deadline))

    def publisher(self) -> Publisher:
        return RabbitPublisher(Connector(self._address), self._doubts, self._kept)

    def log_reader(self) -> LogReader:
        raise not_a_log(self.url)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        """Raises `ConfigurationError` for a wrong topic or a group without a name."""
        if not group:
            raise ConfigurationError(f"{self.url}: a reader needs the name of a group", remedy="name one")
        names = [check_topic(topic) for topic in dict.fromkeys(topics)]
        return RabbitReader(Connector(self._address), names, group, self._kept)

    def _administer(self, topics: Sequence[str], timeout: float, action: Callable[[Topology, str, float], object]) -> None:
        """Do something for each topic, on a link of its own."""
        deadline = time.monotonic() + timeout
        about = "topic " + ", ".join(repr(check_topic(topic)) for topic in topics)
        with closing(Connector(self._address)) as connector:
            topology = Topology(connector.link(deadline, about), self._address.options)
            try:
                topology.exchange(deadline)
                for topic in topics:
                    action(topology, topic, deadline)
            except (LinkFailed, TimeoutError) as error:
                raise connector.describe(about, error) from error
