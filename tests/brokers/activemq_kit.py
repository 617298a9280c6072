"""What the tests of ActiveMQ read with."""

from __future__ import annotations

from brokers import Delivery, QueueReader
from tests.brokers.kit import eventually
from tests.brokers.patience import acknowledge_or_again, poll_patiently


def poll_exactly(reader: QueueReader, count: int) -> list[Delivery]:
    """So many deliveries and no more, unacknowledged."""
    found: list[Delivery] = []

    def enough() -> bool:
        found.extend(reader.poll(max_messages=count - len(found), timeout=1))
        return len(found) == count

    eventually(enough, f"{count} came")
    return found


def all_of(reader: QueueReader, count: int) -> list[bytes]:
    """The values of ``count`` deliveries, acknowledged as they come."""
    found: list[bytes] = []

    def drained() -> bool:
        deliveries = reader.poll(max_messages=100, timeout=1)
        reader.acknowledge(deliveries)
        found.extend(delivery.value for delivery in deliveries)
        return len(found) >= count

    eventually(drained, f"{count} came")
    return found


def read_on(reader: QueueReader, found: dict[bytes, None]) -> int:
    """How many different values there are after one more poll."""
    deliveries = poll_patiently(reader)
    found.update(dict.fromkeys(delivery.value for delivery in deliveries))
    acknowledge_or_again(reader, deliveries)
    return len(found)
