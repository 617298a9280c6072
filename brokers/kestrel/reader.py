"""Reading topics: a queue on every server for each, all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from brokers.contract import Delivery
from brokers.errors import BrokerUnavailable
from brokers.kestrel.broker import Cluster
from brokers.kestrel.connection import LOOK, move
from brokers.kestrel.source import Held, Source

#: Seconds in which `close` gives back what was not acknowledged; after that the server notices by itself.
_FAREWELL: Final = 0.5
#: Seconds in which deliveries of several queues are gathered; after that one that is slow no longer holds up the others.
_TOGETHER: Final = 0.1
#: Seconds between looks at whether one more server is connected.
_SOON: Final = 0.02


class KestrelReader:
    """See `brokers.contract.QueueReader`. ``queues`` are the queues by topic."""

    def __init__(self, cluster: Cluster, queues: Mapping[str, str]) -> None:
        self._url = cluster.url
        self._topics = ", ".join(queues)
        self._patience = cluster.options.answer_timeout
        self._sources = [Source(cluster, host, topic, queue) for topic, queue in queues.items() for host in cluster.hosts]
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`.

        Returns none while ``open_reads`` are unacknowledged. Of several servers those that answer are read; while one does
        not, a poll that found nothing raises `BrokerUnavailable`. Raises `BrokerRefused` when the server allows fewer reads.
        """
        began = time.monotonic()
        until = began + timeout
        with self._lock:
            if found := self._hand_out(max_messages):
                return found
            for source in self._sources:
                source.begin()
            while not self._closing.is_set():
                left = until - time.monotonic()
                for source in self._sources:
                    source.connect(until=began + max(timeout, self._patience), closing=self._closing)
                    source.fetch(0.0 if any(each.ready for each in self._sources) else left)
                whole = not any(source.bursting for source in self._sources)
                if (whole or time.monotonic() - began > _TOGETHER) and (found := self._hand_out(max_messages)):
                    return found
                connecting = any(source.connecting for source in self._sources)
                if any(source.busy for source in self._sources):
                    self._move(_SOON if connecting else LOOK)
                    continue
                # Whether a server is there has to be known, but when others have answered, not in this poll.
                if connecting and (left > 0 or not any(source.connection for source in self._sources)):
                    self._closing.wait(_SOON)
                    continue
                self._raise_failure()
                if left <= 0:
                    break
                self._closing.wait(min(left, LOOK))
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.acknowledge`.

        The server confirms in the order in which it handed out: what is acknowledged before an earlier one may come again
        if this reader goes. Raises `BrokerUnavailable` when the connection has been lost: all may come again.
        """
        with self._lock:
            all_held = [_held(delivery) for delivery in deliveries]
            touched = {held.source for held in all_held if not held.lost}
            for held in all_held:
                held.acknowledged = True
            for source in touched:
                source.confirm()
            while any(source.confirming for source in touched) and not self._closing.is_set():
                self._move(LOOK)
            lost = sum(held.lost for held in all_held)
            if lost or any(source.confirming for source in touched):
                raise BrokerUnavailable(
                    f"{self._url}: topic {self._topics!r}: the connection was lost, {lost} of {len(deliveries)} deliveries"
                    " were not acknowledged",
                    remedy="they are delivered again: poll",
                )

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver these again at the next `poll` of this reader, before others."""
        with self._lock:
            for delivery in reversed(deliveries):
                held = _held(delivery)
                held.source.hand_out_again(held, delivery)

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            until = time.monotonic() + _FAREWELL
            for source in self._sources:
                source.abort()
            while any(source.aborting for source in self._sources) and (left := until - time.monotonic()) > 0:
                self._move(left)
            for source in self._sources:
                source.close()

    def _hand_out(self, most: int) -> list[Delivery]:
        found: list[Delivery] = []
        for source in self._sources:
            # All there is, before any of it is handed out: only then can it be put in order.
            if not source.bursting:
                found += source.hand_out(most - len(found))
        # Whoever came first this time comes last the next.
        self._sources.append(self._sources.pop(0))
        return found

    def _move(self, seconds: float) -> None:
        connections = [source.connection for source in self._sources if source.connection is not None]
        move(connections, seconds)
        for source in self._sources:
            source.digest()

    def _raise_failure(self) -> None:
        for source in self._sources:
            if source.failure is not None:
                raise source.failure


def _held(delivery: Delivery) -> Held:
    if not isinstance(delivery.tag, Held):
        raise TypeError(f"not a delivery of this reader: {delivery.tag!r}")
    return delivery.tag
