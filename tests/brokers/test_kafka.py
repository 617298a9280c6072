"""Kafka keeps the contract, against a real broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brokers.kafka.broker import KafkaBroker
from tests.brokers.log_contract import LogContract
from tests.brokers.server_contract import ServerContract
from tests.servers.broker_server import BrokerServer

# A broker takes seconds to start.
pytestmark = pytest.mark.slow


class TestKafka(ServerContract, LogContract):
    SERVER = "kafka"

    @pytest.fixture
    def expire(self, server: BrokerServer) -> Callable[[str], None]:
        def expire(topic: str) -> None:
            from kafka import KafkaAdminClient, TopicPartition

            admin = KafkaAdminClient(bootstrap_servers=server.url().removeprefix("kafka://"))
            admin.delete_records({TopicPartition(topic, 0): 5})
            admin.close()

        return expire
