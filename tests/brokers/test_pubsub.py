"""Pub/Sub keeps the contract, on Google's in-memory server."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from brokers import Broker, Message, Publisher
from tests.brokers.kit import ROOT, following, take
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract
from tests.servers.broker_server import BrokerServer


class TestPubsub(ServerContract, QueueContract):
    """The service hands out many messages of a key; this server the next one when the one before is acknowledged.

    Where a test of the contract holds several unacknowledged ones of a key, it is here with a key for each.
    """

    SERVER = "pubsub"

    def test_what_is_not_acknowledged_comes_again(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, f"key-{number}", b"value") for number in range(10)])
            received = take(reader, 10, acknowledge=False)
            reader.acknowledge(received[:4])
        with following(broker, topic) as reader:
            again = take(reader, 6)
        assert Counter(delivery.key for delivery in again) == Counter(delivery.key for delivery in received[4:])
        with following(broker, topic) as reader:
            assert list(reader.poll(max_messages=10, timeout=0.3)) == []

    def test_rejected_deliveries_come_again(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "a", b"first"), Message(topic, "b", b"second")])
            reader.reject(take(reader, 2, acknowledge=False))
            again = take(reader, 2)
        assert Counter(delivery.value for delivery in again) == Counter([b"first", b"second"])
        assert all(delivery.redelivered for delivery in again)

    @pytest.mark.slow
    def test_what_a_killed_reader_had_not_acknowledged_comes_again(
        self, server: BrokerServer, broker: Broker, url: str, topic: str, publisher: Publisher
    ) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, f"key-{number}", b"value") for number in range(20)])
        with subprocess.Popen(
            [sys.executable, "-m", "tests.brokers.hold", url, topic, "20"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "holding 20\n"
            process.kill()
        with following(broker, topic) as reader:
            again = take(reader, 20)
        assert {delivery.key for delivery in again} == {f"key-{number}" for number in range(20)}
