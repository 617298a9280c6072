"""Acknowledging, giving back and keeping leases, in requests that the service takes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import grpc
from google.pubsub_v1.types import AcknowledgeRequest, ModifyAckDeadlineRequest

from brokers.errors import BrokerError
from brokers.pubsub.connection import CALL_FAILED, Connection
from brokers.pubsub.failures import code_of
from brokers.pubsub.held import Held, Lease

#: A request may have 512 KiB; an id has about 200 bytes, and more for exactly-once subscriptions.
_IDS: Final = 1_000


def acknowledge(connection: Connection, held: Held, leases: Iterable[Lease], *, deadline: float) -> BaseException | None:
    """Returns what went wrong. What was not acknowledged is still held, unless it never can be."""
    method = connection.calls().subscriber.acknowledge

    def request(subscription: str, ids: list[str]) -> Any:
        return AcknowledgeRequest(subscription=subscription, ack_ids=ids)

    failure: BaseException | None = None
    for part, error in _ask(connection, method, request, leases, deadline=deadline):
        if error is None or code_of(error) is grpc.StatusCode.FAILED_PRECONDITION:
            held.settle(part)
        failure = failure or error
    return failure


def extend(connection: Connection, leases: Iterable[Lease], seconds: int, *, deadline: float) -> BaseException | None:
    """Let leases end in so many seconds; 0 gives the deliveries back. Returns what went wrong, of which there is no harm."""
    method = connection.calls().subscriber.modify_ack_deadline

    def request(subscription: str, ids: list[str]) -> Any:
        return ModifyAckDeadlineRequest(subscription=subscription, ack_ids=ids, ack_deadline_seconds=seconds)

    return next((error for _, error in _ask(connection, method, request, leases, deadline=deadline) if error is not None), None)


class LeaseKeeper(threading.Thread):
    """Keeps what a reader holds its own while the caller works on it."""

    def __init__(self, connection: Connection, held: Held, *, seconds: int) -> None:
        super().__init__(name="pubsub-leases", daemon=True)
        self._connection = connection
        self._held = held
        self._seconds = seconds
        self._stopping = threading.Event()

    def run(self) -> None:
        # Twice before they end, so that one attempt may fail.
        every = self._seconds / 3
        while not self._stopping.wait(every):
            if leases := self._held.leases():
                try:
                    extend(self._connection, leases, self._seconds, deadline=time.monotonic() + every)
                except BrokerError:
                    # Closed, or without credentials: the reader tells its caller, and the leases end.
                    continue

    def stop(self) -> None:
        self._stopping.set()


def _ask(
    connection: Connection, method: Any, request: Any, leases: Iterable[Lease], *, deadline: float
) -> Iterator[tuple[list[Lease], BaseException | None]]:
    """Every part of the leases, with what became of its request. All requests are on their way at once."""
    by_subscription: dict[str, list[Lease]] = defaultdict(list)
    for lease in leases:
        by_subscription[lease.subscription].append(lease)
    calls = []
    for subscription, all_of_it in by_subscription.items():
        for begin in range(0, len(all_of_it), _IDS):
            part = all_of_it[begin : begin + _IDS]
            asked = request(subscription, [lease.ack_id for lease in part])
            calls.append((part, connection.start(method, asked, resource=("subscription", subscription), deadline=deadline)))
    for part, future in calls:
        try:
            future.result()
            yield part, None
        except CALL_FAILED as error:
            yield part, error
