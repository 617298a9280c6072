"""What queues promise beside the rest of the contract."""

from __future__ import annotations

from collections import Counter

import pytest

from brokers import Broker, Publisher
from schemas.errors import ConfigurationError
from tests.brokers.contract import BrokerContract
from tests.brokers.kit import Numbered, eventually, following, numbered, parse, take


class QueueContract(BrokerContract):
    """Queues: deliveries acknowledged one by one."""

    def test_it_says_that_it_is_a_queue(self, broker: Broker) -> None:
        assert not broker.capabilities.log
        with pytest.raises(ConfigurationError):
            broker.log_reader()

    def test_what_was_kept_for_a_group_that_is_forgotten_is_gone(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        broker.forget([topic], group="gone")
        broker.keep([topic], group="gone")
        publisher.publish(numbered(topic, "p", 0, 5))
        broker.forget([topic], group="gone")
        with following(broker, topic, group="gone") as reader:
            assert list(reader.poll(max_messages=10, timeout=0.5)) == []
            publisher.publish(numbered(topic, "p", 1, 5))
            assert [parse(delivery.value).call for delivery in take(reader, 5)] == [1] * 5

    def test_readers_of_a_group_share_the_deliveries(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as one, following(broker, topic) as other:
            for reader in (one, other):
                reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 40))
            found: Counter[Numbered] = Counter()

            def drained() -> bool:
                for reader in (one, other):
                    deliveries = reader.poll(max_messages=5, timeout=0.05)
                    found.update(parse(delivery.value) for delivery in deliveries)
                    reader.acknowledge(deliveries)
                return len(found) >= 40

            eventually(drained, "all deliveries came")
        assert set(found.values()) == {1}
