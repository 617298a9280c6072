"""Reading the queues of a group."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from brokers.contract import Delivery
from brokers.errors import BrokerUnavailable
from brokers.rabbitmq.connector import Connector
from brokers.rabbitmq.failures import LinkFailed
from brokers.rabbitmq.intake import Intake, Source, Tag
from brokers.rabbitmq.kept import Kept
from brokers.rabbitmq.topology import Topology

#: Seconds for connecting, and for an answer of the server.
_PATIENCE: Final = 10.0


class RabbitReader:
    """See `brokers.contract.QueueReader`. The first `poll` subscribes."""

    def __init__(self, connector: Connector, topics: Sequence[str], group: str, kept: Kept) -> None:
        self._connector = connector
        self._kept = kept
        self._topics = topics
        self._group = group
        self._about = f"topic {', '.join(map(repr, topics))}, group {group!r}"
        self._intake: Intake | None = None

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`. Connecting may take up to 10 s, whatever ``timeout`` says."""
        until = time.monotonic() + timeout
        lost = 0
        while not self._connector.closed:
            intake = self._connected()
            try:
                if found := intake.take(max_messages):
                    return found
                left = until - time.monotonic()
                if left <= 0:
                    break
                intake.wait(left)
            except (LinkFailed, TimeoutError) as error:
                intake.link.fail(error)
                lost += 1
                if lost > 1:
                    raise self._connector.describe(self._about, error) from error
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.acknowledge`. Raises `BrokerUnavailable` when the connection on which they
        came is lost: they are delivered again."""
        self._settle(deliveries, Source.acknowledge)

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.reject`. Raises `BrokerUnavailable` as `acknowledge` does."""
        self._settle(deliveries, Source.reject)

    def close(self) -> None:
        self._connector.close()

    def _connected(self) -> Intake:
        """What comes in on the link, which is made anew when it was lost. Raises `BrokerUnavailable` and `BrokerRefused`."""
        deadline = time.monotonic() + _PATIENCE
        link = self._connector.link(deadline, self._about)
        if self._intake is None or self._intake.link is not link:
            options = self._connector.address.options
            try:
                Topology(link, options).exchange(deadline)
                intake = Intake(link, options, self._group)
                for topic in self._topics:
                    intake.subscribe(topic, deadline)
                    self._kept.add(topic, self._group)
            except (LinkFailed, TimeoutError) as error:
                link.fail(error)
                raise self._connector.describe(self._about, error) from error
            self._intake = intake
        return self._intake

    def _settle(self, deliveries: Sequence[Delivery], settle: Callable[[Source, set[int], float], None]) -> None:
        tags: dict[Source, set[int]] = defaultdict(set)
        for delivery in deliveries:
            if not isinstance(delivery.tag, Tag):
                raise TypeError(f"not a delivery of this reader: {delivery.tag!r}")
            tags[delivery.tag.source].add(delivery.tag.number)
        deadline = time.monotonic() + _PATIENCE
        for source, numbers in tags.items():
            try:
                settle(source, numbers, deadline)
            except (LinkFailed, TimeoutError) as error:
                source.channel.link.fail(error)
                why = self._connector.describe(self._about, error)
                raise BrokerUnavailable(f"{why.message}; what is not acknowledged comes again", remedy=why.remedy) from error
