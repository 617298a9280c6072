"""What a reader holds: deliveries that wait to be polled, and leases on all that is not acknowledged."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from brokers.contract import Delivery

#: How many messages that were given back are remembered, to tell when they come again.
_REMEMBERED: Final = 10_000


class Lease(NamedTuple):
    """The tag of a delivery: what acknowledges it."""

    subscription: str
    ack_id: str
    message_id: str


class Held:
    """Shared by the streams that fill it, the caller that takes from it, and the thread that keeps the leases.

    Holds no more than ``most`` deliveries of ``most_bytes``, handed out or waiting, but for the response at hand.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[Delivery] = deque()
        self._leases: dict[Lease, int] = {}
        self._bytes = 0
        self._given_out: dict[str, None] = {}
        self._changed = threading.Condition()
        self._woken = False
        self._closed = False

    def put(self, delivery: Delivery, lease: Lease, *, abandoned: Callable[[], bool]) -> None:
        """Add a delivery; waits while there is no room, unless it is ``abandoned`` or this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() or self._closed or abandoned())
            # One whose lease had ended comes again, as does one that was rejected.
            again = delivery.redelivered or lease.message_id in self._given_out
            self._leases[lease] = len(delivery.value)
            self._bytes += len(delivery.value)
            self._waiting.append(delivery._replace(redelivered=again))
            self._changed.notify_all()

    def take(self, most: int, until: float) -> list[Delivery]:
        """What is waiting, in order; empty at the time ``until``, after `wake`, and when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._woken or self._closed, timeout=until - time.monotonic())
            self._woken = False
            if self._closed:
                return []
            found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            for delivery in found:
                self._remember(delivery)
            return found

    def settle(self, leases: Iterable[Lease]) -> None:
        """These are acknowledged."""
        with self._changed:
            for lease in leases:
                self._release(lease)
                self._given_out.pop(lease.message_id, None)
            self._changed.notify_all()

    def give_back(self, deliveries: Iterable[Delivery]) -> list[Lease]:
        """Let go of these, and of what waits of their keys: it would come before them, and comes again after them."""
        with self._changed:
            rejected = list(deliveries)
            keys = {(delivery.topic, delivery.key) for delivery in rejected}
            behind = [delivery for delivery in self._waiting if (delivery.topic, delivery.key) in keys]
            self._waiting = deque(delivery for delivery in self._waiting if (delivery.topic, delivery.key) not in keys)
            leases = [delivery.tag for delivery in (*rejected, *behind) if isinstance(delivery.tag, Lease)]
            for lease in leases:
                self._release(lease)
            self._changed.notify_all()
            return leases

    def leases(self) -> list[Lease]:
        with self._changed:
            return list(self._leases)

    def wake(self) -> None:
        """End a `take` that waits, and let streams look whether they are abandoned."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing waits here any more, and nothing is taken. What is still put is kept for its lease to be given back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._leases) < self._most and self._bytes < self._most_bytes

    def _release(self, lease: Lease) -> None:
        self._bytes -= self._leases.pop(lease, 0)

    def _remember(self, delivery: Delivery) -> None:
        if isinstance(delivery.tag, Lease):
            self._given_out[delivery.tag.message_id] = None
        while len(self._given_out) > _REMEMBERED:
            del self._given_out[next(iter(self._given_out))]
