"""Reading the topics of a group."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from brokers.contract import Delivery
from brokers.errors import BrokerUnavailable
from brokers.mqtt.failures import CUT, about
from brokers.mqtt.feed import Bell, Feed
from brokers.mqtt.options import Target

#: Seconds between looks whether a topic is free that another reader of this process has.
_STANDBY: Final = 0.1


class Turns:
    """Which reader of this process has the session of a group and topic; the others stand by."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[tuple[str, str], object] = {}

    def take(self, group: str, topic: str, reader: object) -> bool:
        with self._lock:
            return self._holders.setdefault((group, topic), reader) is reader

    def give_up(self, group: str, topics: Iterable[str], reader: object) -> None:
        with self._lock:
            for topic in topics:
                if self._holders.get((group, topic)) is reader:
                    del self._holders[group, topic]


class MqttReader:
    """See `brokers.contract.QueueReader`. Each topic has a session, and a connection, of its own."""

    def __init__(self, target: Target, topics: Sequence[str], group: str, turns: Turns) -> None:
        self._target = target
        self._group = group
        self._turns = turns
        self._bell = Bell()
        self._feeds = {topic: Feed(target, group, topic, self._bell) for topic in topics}
        self._first = 0
        self._closed = threading.Event()

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`.

        The sessions are there when the first call has returned; it waits for that beyond ``timeout``, at most
        ``connect_timeout`` of the URL. Raises `BrokerRefused` and `BrokerUnavailable`.
        """
        until = time.monotonic() + timeout
        while not self._closed.is_set():
            rung = self._bell.rung
            mine = [feed for feed in self._feeds.values() if self._turns.take(self._group, feed.topic, self)]
            for feed in mine:
                if failure := feed.refusal():
                    raise failure.error(self._target.shown, [feed.topic])
            pause = min([feed.attend() for feed in mine], default=_STANDBY)
            if len(mine) < len(self._feeds):
                pause = min(pause, _STANDBY)
            if self._closed.is_set():
                break
            if found := self._take(mine, max_messages):
                return found
            left = until - time.monotonic()
            if left <= 0:
                waiting = [feed for feed in mine if not feed.ready]
                if not waiting:
                    return []
                for feed in waiting:
                    if failure := feed.failure:
                        raise failure.error(self._target.shown, [feed.topic])
            with self._bell.condition:
                if self._bell.rung == rung:
                    self._bell.condition.wait(min(pause, left) if left > 0 else pause)
        self.close()  # again: something may have been connected meanwhile
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.acknowledge`.

        Returns when the PUBACKs are on their way: MQTT has no answer to them, and one to what is asked after them would come
        behind all that the server sends meanwhile. Raises `BrokerUnavailable` when a connection was lost since it brought some
        of these: they are delivered again.
        """
        lost = [feed.topic for feed, members in self._by_feed(deliveries) if not feed.acknowledge(members)]
        if lost:
            raise BrokerUnavailable(
                f"{about(self._target.shown, lost)}: {CUT.reason} after these were delivered",
                remedy="go on polling: what was not acknowledged in time is delivered again",
            )

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.reject`: from here, as a server delivers again only to a new connection (4.4)."""
        for feed, members in self._by_feed(deliveries):
            feed.give_back(members)

    def close(self) -> None:
        self._closed.set()
        for feed in self._feeds.values():
            feed.close()
        self._turns.give_up(self._group, self._feeds, self)
        self._bell.ring()

    def _take(self, feeds: Sequence[Feed], most: int) -> list[Delivery]:
        """From each topic in turn, beginning with another one each time."""
        found: list[Delivery] = []
        self._first += 1
        for number in range(len(feeds)):
            found += feeds[(self._first + number) % len(feeds)].take(most - len(found))
        return found

    def _by_feed(self, deliveries: Sequence[Delivery]) -> list[tuple[Feed, list[Delivery]]]:
        members: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            members[delivery.topic].append(delivery)
        return [(self._feeds[topic], found) for topic, found in members.items()]
