"""Pub/Sub keeps the contract, on Google's in-memory server."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections import Counter
from typing import ClassVar

import pytest

from brokers import Broker, Message, Publisher, PublishError
from tests.brokers.kit import ROOT, following, numbered, take
from tests.brokers.patience import publish_patiently
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract
from tests.servers.broker_server import BrokerServer


class TestPubsub(ServerContract, QueueContract):
    """The service hands out many messages of a key; this server the next one when the one before is acknowledged.

    Where a test of the contract holds several unacknowledged ones of a key, it is here with a key for each.
    """

    SERVER = "pubsub"
    #: It hands out a hundred messages of a key per second.
    LIVES = 2
    ALERT: ClassVar = {"keepalive": "2s"}

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
    def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
        self, server: BrokerServer, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        """Shown: a call that the server's death cuts short names what was not acknowledged, and this arrives in order when
        it is published again. Not shown: that what was acknowledged before is still there. This server forgets; that
        the service does not is Google's promise.
        """
        assert getattr(server, "forgets", False)
        broker.keep([topic], group="tests")
        killer = threading.Timer(0.5, server.process.kill)
        killer.start()
        sent, error = publish_until_it_fails(publisher, topic)
        killer.join()
        unacknowledged = error.unacknowledged
        assert error.refused == ()
        assert unacknowledged == tuple(range(5_000 - len(unacknowledged), 5_000)), "the end of the key's messages"
        server.process.start()
        broker.keep([topic], group="tests")
        again = [sent[position] for position in unacknowledged[-200:]]
        publish_patiently(publisher, again)
        with following(broker, topic) as reader:
            received = take(reader, len(again))
        assert [delivery.value for delivery in received] == [message.value for message in again]

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


def publish_until_it_fails(publisher: Publisher, topic: str) -> tuple[list[Message], PublishError]:
    """The messages of the call that failed, and its error."""
    for call in itertools.count():
        sent = numbered(topic, "p", call, 5_000)
        try:
            publisher.publish(sent, timeout=10)
        except PublishError as error:
            return sent, error
    raise AssertionError
