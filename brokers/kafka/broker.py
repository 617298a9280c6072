"""`KafkaBroker`: the topics of a cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_queue
from brokers.kafka.cluster import Cluster
from brokers.kafka.failures import Trouble
from brokers.kafka.link import Link
from brokers.kafka.options import KafkaOptions
from brokers.kafka.publisher import KafkaPublisher
from brokers.kafka.reader import KafkaReader
from schemas.topics import check_topic


class KafkaBroker:
    """See `brokers.contract.Broker`. ``settings`` are those of `brokers.kafka.options.connection_settings`."""

    def __init__(self, settings: Mapping[str, Any], options: KafkaOptions, *, url: str) -> None:
        self._settings = settings
        self._options = options
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=True,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._options.max_message_bytes,
            notes="stored by all in-sync replicas (acks=all); a single broker must also survive its machine's power",
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:
        """See `brokers.contract.Broker.create_topic`. A topic that is there keeps its settings.

        Raises `BrokerUnavailable`, `BrokerRefused`.
        """
        check_topic(topic)
        deadline = time.monotonic() + timeout
        options = self._options
        with closing(Link(self._settings, self._options)) as link:
            cluster = Cluster(link)
            try:
                cluster.patiently(
                    topic,
                    lambda: cluster.create(
                        topic,
                        partitions,
                        replication=options.replication,
                        max_message_bytes=options.max_message_bytes,
                        deadline=deadline,
                    ),
                    deadline=deadline,
                )
            except Trouble as trouble:
                raise trouble.explained(self._url, topic, link.hosts) from trouble

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """A log keeps everything for everyone."""

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Positions are their readers' own."""

    def publisher(self) -> Publisher:
        return KafkaPublisher(Link(self._settings, self._options), self._options, url=self._url)

    def log_reader(self) -> LogReader:
        return KafkaReader(Link(self._settings, self._options), url=self._url)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:  # noqa: ARG002
        raise not_a_queue(self.url)
