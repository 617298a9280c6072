"""`ActiveMqBroker`: topics of an ActiveMQ server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

from brokers.activemq.administration import empty_queue, make_queue
from brokers.activemq.failures import SessionFailed, broker_error
from brokers.activemq.names import read_from
from brokers.activemq.options import ActiveMqOptions, address_of
from brokers.activemq.publisher import ActiveMqPublisher
from brokers.activemq.reader import ActiveMqReader
from brokers.activemq.session import Session, open_session
from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_log
from brokers.url import BrokerUrl
from schemas.topics import check_topic
from telemetry.logs import logger


class _Work(Protocol):
    def __call__(self, session: Session, queue: str, *, deadline: float) -> None: ...


class ActiveMqBroker:
    """A queue. Raises `ConfigurationError` for a wrong option."""

    def __init__(self, url: BrokerUrl) -> None:
        self._options = url.options_as(ActiveMqOptions)
        self._address = address_of(url, self._options)

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=False,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._options.max_message_bytes,
            notes="a group gets what is published after its first poll, or after keep; forget empties a queue, but it stays",
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:  # noqa: ARG002
        """Nothing to do: a topic comes into being when it is used, and has no partitions."""
        check_topic(topic)

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """See `brokers.contract.Broker.keep`: make the queues of ``group``."""
        self._for_each_queue(make_queue, topics, group, timeout)

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Empty the queues of ``group``. They stay, and go on collecting: only the server's own tools delete a queue."""
        self._for_each_queue(empty_queue, topics, group, timeout)
        logger("activemq", broker=self.url).warning(
            "emptied, but still there: delete them with the server's console, or they fill again",
            queues=[read_from(topic, group).removeprefix("/queue/") for topic in topics],
        )

    def publisher(self) -> Publisher:
        return ActiveMqPublisher(self._address, self._options)

    def log_reader(self) -> LogReader:
        raise not_a_log(self.url)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        return ActiveMqReader(self._address, self._options, topics, group)

    def _for_each_queue(self, work: _Work, topics: Sequence[str], group: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        queues = [read_from(check_topic(topic), group) for topic in topics]
        try:
            with closing(open_session(self._address, deadline=deadline, ended=lambda: False)) as session:
                for queue in queues:
                    work(session, queue, deadline=deadline)
        except SessionFailed as failed:
            raise broker_error(self.url, topics, failed) from failed
