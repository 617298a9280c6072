"""Reading: a share in every topic, looked at again and again."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from brokers.contract import Delivery
from brokers.errors import BrokerUnavailable
from iotcloud_spool.directory import LockedTopic, Name, Spool
from iotcloud_spool.publisher import decode
from iotcloud_spool.share import Share

#: Seconds between looks for new messages, and how long another process may hold a topic.
_PAUSE: Final = 0.02
_PATIENCE: Final = 10.0


class Tag(NamedTuple):
    topic: str
    file: str


class SpoolReader:
    """See `brokers.contract.QueueReader`. ``max_outstanding`` deliveries are not acknowledged at most."""

    def __init__(self, spool: Spool, topics: Sequence[str], *, group: str, max_outstanding: int) -> None:
        self._spool = spool
        self._topics = [(topic, spool.topic(topic)) for topic in dict.fromkeys(topics)]
        self._group = group
        self._max_outstanding = max_outstanding
        self._shares: dict[str, Share] = {}
        self._open: set[Tag] = set()
        self._closing = threading.Event()
        #: Held by who works in the directory, so that closing does not take a share away from under it.
        self._working = threading.Lock()

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`. Raises `BrokerUnavailable`."""
        until = time.monotonic() + timeout
        while not self._closing.is_set():
            found: list[Delivery] = []
            for topic, _ in self._topics:
                room = min(max_messages - len(found), self._max_outstanding - len(self._open))
                found += self._take(topic, room)
            if found or time.monotonic() >= until:
                # The next poll begins with another topic, so that a busy one does not starve the rest.
                self._topics.append(self._topics.pop(0))
                return found
            self._closing.wait(min(_PAUSE, until - time.monotonic()))
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.acknowledge`. Raises `BrokerUnavailable`."""
        for topic, files in _by_topic(deliveries).items():
            with self._spool.describing(topic), self._working:
                self._share(topic).acknowledge(files)
                self._open.difference_update(Tag(topic, file) for file in files)

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.reject`. Raises `BrokerUnavailable`."""
        for topic, files in _by_topic(deliveries).items():
            with self._locked(topic):
                self._share(topic).give_back(files)
                self._open.difference_update(Tag(topic, file) for file in files)

    def close(self) -> None:
        """Gives back what is not acknowledged; where that fails, the next reader of the group takes it."""
        self._closing.set()
        with self._working:
            shares, self._shares = self._shares, {}
        for topic, share in shares.items():
            locked = self._spool.topic(topic).locked(time.monotonic() + 0.5, threading.Event())
            with suppress(OSError), locked:
                share.dissolve()
            share.leave()

    def _take(self, topic: str, room: int) -> list[Delivery]:
        with self._locked(topic) as locked:
            if topic not in self._shares:
                self._shares[topic] = Share(locked, self._group)
            deliveries = [_delivery(topic, path) for path in self._shares[topic].take(room)]
        self._open.update(Tag(topic, delivery.tag.file) for delivery in deliveries if isinstance(delivery.tag, Tag))
        return deliveries

    @contextmanager
    def _locked(self, topic: str) -> Iterator[LockedTopic]:
        deadline = time.monotonic() + _PATIENCE
        with (
            self._spool.describing(topic),
            self._working,
            self._spool.topic(topic).locked(deadline, self._closing) as locked,
        ):
            yield locked

    def _share(self, topic: str) -> Share:
        share = self._shares.get(topic)
        if share is None:
            raise BrokerUnavailable(f"{self._spool.url}: topic {topic!r}: the reader is closed", remedy="open it again")
        return share


def _delivery(topic: str, path: Path) -> Delivery:
    key, value = decode(path.read_bytes())
    return Delivery(topic, key, value, Tag(topic, path.name), Name.of(path).times > 0)


def _by_topic(deliveries: Sequence[Delivery]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = defaultdict(list)
    for delivery in deliveries:
        if not isinstance(delivery.tag, Tag):
            raise TypeError(f"not a delivery of this reader: {delivery.tag!r}")
        files[delivery.tag.topic].append(delivery.tag.file)
    return files
