"""MQTT keeps the contract with mosquitto, and what is particular to it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import ClassVar

import paho.mqtt.publish
import pytest
from paho.mqtt.client import MQTTv5

from brokers import Broker, BrokerUnavailable, Delivery, Message, Publisher, PublishError, connect
from brokers.mqtt.names import mqtt_topic
from tests.brokers.kit import PATIENCE, Numbered, following, numbered, parse, take
from tests.brokers.patience import acknowledge_or_again, poll_patiently, publish_patiently
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract
from tests.servers.broker_server import BrokerServer
from tests.servers.mqtt import PASSWORD, MosquittoServer


class TestMqtt(ServerContract, QueueContract):
    SERVER = "mqtt"
    # Its session is seen to by connecting as it; the reader's connection ends, with the PUBACKs on their way.
    keeps_quietly = False
    ALERT: ClassVar = {"keepalive": "1", "connect_timeout": "1"}

    @pytest.mark.slow
    @pytest.mark.parametrize("tls", [False, True])
    def test_what_went_straight_to_a_connected_reader_survives_the_server(
        self, server: MosquittoServer, broker: Broker, topic: str, tls: bool
    ) -> None:
        publishing = connect(server.tls_url()) if tls else broker
        with following(broker, topic) as reader, closing(publishing.publisher()) as publisher:
            poll_patiently(reader)
            for call in range(5):
                publish_patiently(publisher, numbered(topic, "p", call, 3))
                server.process.kill()
                server.process.start()
                wanted = {Numbered("p", call, index) for index in range(3)}
                until = time.monotonic() + PATIENCE
                while wanted:
                    assert time.monotonic() < until
                    deliveries = poll_patiently(reader)
                    wanted -= {parse(delivery.value) for delivery in deliveries}
                    acknowledge_or_again(reader, deliveries)

    @pytest.mark.slow
    def test_what_was_kept_and_forgotten_stays_so_when_the_server_is_killed(
        self, server: BrokerServer, broker: Broker, topic: str
    ) -> None:
        broker.keep([topic], group="kept")
        broker.keep([topic], group="forgotten")
        broker.forget([topic], group="forgotten")
        server.process.kill()
        server.process.start()
        with closing(broker.publisher()) as publisher:
            publish_patiently(publisher, numbered(topic, "p", 0, 3))
        with following(broker, topic, group="kept") as reader:
            assert len(take(reader, 3)) == 3
        with following(broker, topic, group="forgotten") as reader:
            assert list(reader.poll(max_messages=10, timeout=0.3)) == []

    @pytest.mark.slow
    def test_order_survives_connections_that_are_cut_in_the_middle(
        self, server: BrokerServer, proxied: Broker, publisher: Publisher, topic: str
    ) -> None:
        with following(proxied, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", str(number).encode()) for number in range(600)])
            order: list[int] = []
            until = time.monotonic() + PATIENCE
            while len(set(order)) < 600:
                assert time.monotonic() < until
                deliveries: Sequence[Delivery] = []
                with suppress(BrokerUnavailable):
                    deliveries = reader.poll(max_messages=random.randrange(1, 120), timeout=1)
                order += [int(delivery.value) for delivery in deliveries]
                if random.random() < 0.5:
                    server.proxy.cut()
                    server.proxy.restore()
                acknowledge_or_again(reader, deliveries)
        assert list(dict.fromkeys(order)) == list(range(600))

    def test_what_lacks_the_right_is_kept_and_named_and_does_not_hold_up_the_rest(
        self, server: MosquittoServer, broker: Broker, topic: str
    ) -> None:
        """Guarantee: a right that is missing can be given, so nothing that lacks it is ever given up."""
        allowed = f"elsewhere.{topic}"
        barred = [topic, f"{topic}-too"]
        pending = [
            Message(barred[number % 2] if number % 50 in (20, 21) else allowed, "key", str(number).encode())
            for number in range(150)
        ]
        stranger = connect(server.url_of("stranger"))
        error: PublishError | None = None
        with following(broker, allowed) as reader:
            reader.poll(max_messages=1, timeout=0)
            until = time.monotonic() + PATIENCE
            while any(message.topic == allowed for message in pending):
                assert time.monotonic() < until
                # A publisher of its own for each attempt, as the gateway has it.
                with closing(stranger.publisher()) as publisher, pytest.raises(PublishError) as caught:
                    publisher.publish(pending)
                error = caught.value
                assert error.refused == ()
                pending = [pending[index] for index in error.unacknowledged]
            found: dict[bytes, None] = {}
            while len(found) < 144:
                found.update(dict.fromkeys(delivery.value for delivery in take(reader, 1)))
        assert [int(message.value) for message in pending] == [20, 21, 70, 71, 120, 121]
        assert list(found) == [str(number).encode() for number in range(150) if number % 50 not in (20, 21)]
        # With nothing else in the way it is named, and each in its turn.
        named = set()
        with closing(stranger.publisher()) as publisher:
            for _ in range(2):
                with pytest.raises(PublishError, match="not authorised") as caught:
                    publisher.publish(pending)
                self.assert_clear(caught.value, stranger, topic)
                assert "right" in caught.value.remedy
                named |= {name for name in barred if f"publish to {name!r}" in caught.value.message}
        assert named == set(barred)

    def test_what_nobody_subscribes_to_is_not_published_if_that_is_asked_for(self, server: MosquittoServer, topic: str) -> None:
        broker = connect(server.url(require_subscriber="true"))
        messages = [Message(topic, "key", str(number).encode()) for number in range(3)]
        with closing(broker.publisher()) as publisher:
            with pytest.raises(PublishError) as caught:
                publisher.publish(messages)
            assert caught.value.unacknowledged == (0, 1, 2)
            assert caught.value.refused == ()
            self.assert_clear(caught.value, broker, topic)
            broker.keep([topic], group="late")
            publisher.publish(messages)
        with following(broker, topic, group="late") as reader:
            assert [delivery.value for delivery in take(reader, 3)] == [b"0", b"1", b"2"]

    def test_messages_of_others_have_no_key_and_retained_ones_do_not_come(
        self, server: MosquittoServer, broker: Broker, topic: str
    ) -> None:
        def publish(value: bytes, *, qos: int, retain: bool = False) -> None:
            paho.mqtt.publish.single(
                mqtt_topic(topic),
                value,
                qos=qos,
                retain=retain,
                port=server.port,
                hostname="127.0.0.1",
                auth={"username": "gateway", "password": PASSWORD},
                protocol=MQTTv5,
            )

        publish(b"retained", qos=1, retain=True)
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publish(b"at most once", qos=0)
            publish(b"at least once", qos=1)
            publish(b"exactly once", qos=2)
            found = take(reader, 3)
        assert [(delivery.key, delivery.value) for delivery in found] == [
            ("", b"at most once"),
            ("", b"at least once"),
            ("", b"exactly once"),
        ]

    def test_acknowledgements_go_out_in_the_order_of_the_messages(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", value) for value in (b"1", b"2", b"3")])
            found = take(reader, 3, acknowledge=False)
            reader.acknowledge(found[1:2])
        with following(broker, topic) as reader:
            again = take(reader, 3, acknowledge=False)
            assert [delivery.value for delivery in again] == [b"1", b"2", b"3"]
            assert all(delivery.redelivered for delivery in again)
            reader.acknowledge(again[1:])
            reader.acknowledge(again[:1])
            reader.acknowledge(again)
        with following(broker, topic) as reader:
            assert list(reader.poll(max_messages=10, timeout=0.3)) == []

    def test_deliveries_of_a_lost_connection_cannot_be_acknowledged(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", b"value")])
            found = take(reader, 1, acknowledge=False)
            broker.keep([topic], group="tests")
            again = take(reader, 1, acknowledge=False)
            with pytest.raises(BrokerUnavailable) as caught:
                reader.acknowledge(found)
            self.assert_clear(caught.value, broker, topic)
            assert again[0].redelivered
            reader.reject(found)
            reader.acknowledge(again)
            assert list(reader.poll(max_messages=10, timeout=0.3)) == []

    def test_a_reader_of_another_process_takes_over_and_nothing_is_lost(self, url: str, topic: str, publisher: Publisher) -> None:
        # Two brokers share nothing here, like two processes.
        with following(connect(url), topic) as one, following(connect(url), topic) as other:
            found: set[bytes] = set()
            poll_patiently(one)
            until = time.monotonic() + PATIENCE
            publisher.publish([Message(topic, "key", str(number).encode()) for number in range(100)])
            while len(found) < 100:
                assert time.monotonic() < until
                for reader in (one, other):
                    deliveries = reader.poll(max_messages=20, timeout=1.0)
                    found.update(delivery.value for delivery in deliveries)
                    acknowledge_or_again(reader, deliveries)

    def test_several_topics_of_a_group(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        topics = [f"{topic}-{number}" for number in range(12)]
        sent = [Message(name, "key", str(number).encode()) for number in range(10) for name in topics]
        with closing(broker.queue_reader(topics, group="many")) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(sent)
            found = take(reader, len(sent))
        for name in topics:
            values = [delivery.value for delivery in found if delivery.topic == name]
            assert values == [str(number).encode() for number in range(10)]
        # Its topics may change: what each keeps is its own.
        with closing(broker.queue_reader(topics[:2], group="many")) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(sent[:12])
            assert len(take(reader, 2)) == 2
        with closing(broker.queue_reader(topics, group="many")) as reader:
            assert {delivery.topic for delivery in take(reader, 10)} == set(topics[2:])

    def test_no_more_come_than_the_window_lets_through(self, server: MosquittoServer, topic: str, publisher: Publisher) -> None:
        with following(connect(server.url(window="3")), topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", str(number).encode()) for number in range(7)])
            first = take(reader, 3, acknowledge=False)
            assert list(reader.poll(max_messages=10, timeout=0.3)) == []
            reader.acknowledge(first)
            rest = take(reader, 4)
        assert [delivery.value for delivery in first + rest] == [str(number).encode() for number in range(7)]
