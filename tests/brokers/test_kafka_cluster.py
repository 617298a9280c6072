"""A cluster whose leaders change: partitions go on at another broker, and nothing is lost or out of order."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from brokers import Message, connect
from tests.brokers.kit import PATIENCE, following
from tests.brokers.patience import poll_patiently
from tests.servers.kafka.pair import KafkaPair

pytestmark = pytest.mark.slow

KEYS = [f"key-{number}" for number in range(12)]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[KafkaPair]:
    made = KafkaPair(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_partitions_go_on_at_another_broker_when_theirs_is_killed(pair: KafkaPair) -> None:
    broker = connect(pair.url(replication="2"))
    broker.create_topic("topic", partitions=6)
    sent: dict[str, list[bytes]] = defaultdict(list)
    found: dict[str, list[bytes]] = defaultdict(list)
    with closing(broker.publisher()) as publisher, following(broker, "topic") as reader:

        def publish(calls: int) -> None:
            for _ in range(calls):
                messages = [Message("topic", key, str(len(sent[key])).encode()) for key in KEYS]
                for message in messages:
                    sent[message.key].append(message.value)
                publisher.publish(messages, timeout=PATIENCE)

        def poll() -> None:
            for delivery in poll_patiently(reader):
                found[delivery.key].append(delivery.value)

        publish(5)
        poll()
        pair.brokers[1].kill()
        publish(5)
        poll()
        pair.brokers[1].start()
        publish(5)
        until = time.monotonic() + PATIENCE
        while {key: list(dict.fromkeys(values)) for key, values in found.items()} != sent:
            assert time.monotonic() < until, f"{sum(map(len, found.values()))} came"
            poll()
    assert found == sent, "something was stored twice"
