"""Who a publisher is to the servers, so that what it repeats is stored once (KIP-98)."""

from __future__ import annotations

from typing import Final

from kafka.protocol.producer import InitProducerIdRequest  # type: ignore[import-untyped]

from brokers.kafka.batches import Producer
from brokers.kafka.cluster import Cluster
from brokers.kafka.failures import trouble_of
from brokers.positions import Place

_LAST_EPOCH: Final = 32_000
_LAST_SEQUENCE: Final = (1 << 31) - 1


class Identity:
    """A producer's id, its epoch, and the next sequence number of each partition."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._id = -1
        self._epoch = 0
        self._next: dict[Place, int] = {}

    @property
    def known(self) -> bool:
        return self._id >= 0

    def obtain(self, *, deadline: float) -> None:
        """Ask the cluster for an id. Raises `Trouble`."""
        answer, _ = self._cluster.ask_any(
            lambda: InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), deadline
        )
        if trouble := trouble_of(answer.error_code):
            raise trouble
        self._id, self._epoch = answer.producer_id, answer.producer_epoch
        self._next.clear()

    def stamp(self, place: Place) -> Producer:
        """For the next batch of a partition."""
        return Producer(self._id, self._epoch, self._next.get(place, 0))

    def stored(self, place: Place, count: int) -> None:
        """The server has taken ``count`` records."""
        self._next[place] = (self._next.get(place, 0) + count) & _LAST_SEQUENCE

    def renew(self) -> None:
        """After doubt about what was stored: a new epoch.

        Numbers begin anew, and what is still on its way under the old epoch is refused by every partition that has
        taken a batch of the new one, so that it cannot come between what is published again.
        """
        self._epoch += 1
        self._next.clear()
        if self._epoch > _LAST_EPOCH:
            self.forget()

    def forget(self) -> None:
        """The servers do not know this producer any more; `obtain` another id."""
        self._id = -1
        self._next.clear()
