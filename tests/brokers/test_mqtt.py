"""MQTT keeps the contract with mosquitto, and what is particular to it."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import paho.mqtt.publish
import pytest
from paho.mqtt.client import MQTTv5

from brokers import Broker, BrokerRefused, BrokerUnavailable, Delivery, Message, Publisher, PublishError, connect
from brokers.mqtt.call import Call
from brokers.mqtt.names import mqtt_topic, session_id
from brokers.mqtt.options import target_of
from brokers.url import parse_url
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import PATIENCE, ROOT, Numbered, following, numbered, parse, take
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract, acknowledge_or_again, ended_within, poll_patiently, publish_patiently
from tests.servers.broker_server import BrokerServer
from tests.servers.mqtt import PASSWORD, MosquittoServer
from tests.servers.packages import apt


class TestMqtt(ServerContract, QueueContract):
    SERVER = "mqtt"
    CALLS = 40

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

    def test_the_right_to_publish_is_missing(self, server: MosquittoServer, topic: str) -> None:
        broker = connect(server.url_of("stranger"))
        allowed = Message("elsewhere.allowed", "key", b"value")
        with closing(broker.publisher()) as publisher:
            with pytest.raises(PublishError) as caught:
                publisher.publish([allowed, Message(topic, "key", b"1"), allowed, Message(topic, "key", b"2")])
            assert caught.value.refused == (1, 3)
            self.assert_clear(caught.value, broker, topic)
            assert "right" in caught.value.remedy
            publisher.publish([allowed, allowed])

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

    def test_tls_without_the_client_certificate_that_the_server_wants(self, server: MosquittoServer, topic: str) -> None:
        made = server.certificates
        broker = connect(f"mqtts://127.0.0.1:{server.tls_port}?ca={made.ca}")
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish([Message(topic, "key", b"value")], timeout=1)
        self.assert_clear(caught.value, broker, topic)
        assert "cert=" in caught.value.remedy

    def test_certificate_files_that_are_not_there(self, server: MosquittoServer, topic: str) -> None:
        broker = connect(server.tls_url(cert="no-such-file.pem"))
        with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerRefused) as caught:
            reader.poll(max_messages=1, timeout=10)
        self.assert_clear(caught.value, broker, topic)
        assert "no-such-file.pem" in caught.value.message

    def test_a_name_that_is_not_in_the_certificate_is_refused(self, server: MosquittoServer, topic: str) -> None:
        # Another way to write the same address.
        broker = connect(server.tls_url().replace("127.0.0.1", "127.1"))
        with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerRefused) as caught:
            reader.poll(max_messages=1, timeout=10)
        assert "certificate is not trusted" in caught.value.message

    def test_a_port_that_speaks_no_tls(self, server: MosquittoServer, topic: str) -> None:
        broker = connect(server.tls_url().replace(str(server.tls_port), str(server.port)))
        with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerUnavailable) as caught:
            reader.poll(max_messages=1, timeout=1)
        self.assert_clear(caught.value, broker, topic)

    def test_closing_ends_a_reader_that_cannot_connect(self, server: BrokerServer, proxied: Broker, topic: str) -> None:
        server.proxy.hang()
        reader = proxied.queue_reader([topic], group="tests")
        ended = threading.Event()

        def poll() -> None:
            if not reader.poll(max_messages=1, timeout=300):
                ended.set()

        threading.Thread(target=poll, daemon=True).start()
        assert not ended.wait(0.3)
        reader.close()
        assert ended.wait(5)

    @pytest.mark.slow
    def test_a_connection_lives_while_its_caller_is_idle_or_busy(self, server: MosquittoServer, topic: str) -> None:
        broker = connect(server.url(keepalive="1"))
        with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", b"1")])
            found = take(reader, 1, acknowledge=False)
            logged = server.process.log.stat().st_size
            threading.Event().wait(4)  # longer than the one and a half keep-alives after which a server gives up (3.1.2.10)
            reader.acknowledge(found)
            publisher.publish([Message(topic, "key", b"2")])
            assert [delivery.value for delivery in take(reader, 1)] == [b"2"]
            assert "New client" not in server.process.log.read_text()[logged:]

    @pytest.mark.slow
    def test_a_connection_that_went_silent_is_noticed_without_traffic(
        self, server: MosquittoServer, broker: Broker, topic: str
    ) -> None:
        with following(connect(server.proxied_url(keepalive="1", connect_timeout="1")), topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            server.proxy.hang()
            with pytest.raises(BrokerUnavailable), ended_within(10 + self.GRACE):
                reader.poll(max_messages=1, timeout=10)
            server.proxy.restore()
            with closing(broker.publisher()) as publisher:
                publisher.publish(numbered(topic, "p", 0, 1))
            until = time.monotonic() + PATIENCE
            while not poll_patiently(reader):
                assert time.monotonic() < until


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    """A server that takes little at once."""
    apt("mosquitto", program="mosquitto")
    server = MosquittoServer(tmp_path_factory.mktemp("small"), inflight=5, settings="max_packet_size 10000")
    server.process.start()
    yield server
    server.process.stop()
    server.proxy.close()


class TestSmallServer:
    def test_it_gets_no_more_than_it_wants(self, small_server: MosquittoServer) -> None:
        broker = connect(small_server.url())
        with following(broker, "small.window") as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered("small.window", "p", 0, 200))
            found: list[Numbered] = []
            until = time.monotonic() + PATIENCE
            while len(found) < 200:
                assert time.monotonic() < until
                deliveries = reader.poll(max_messages=100, timeout=1)
                found += [parse(delivery.value) for delivery in deliveries]
                reader.acknowledge(deliveries)
        assert found == [Numbered("p", 0, index) for index in range(200)]

    @pytest.mark.parametrize("key", ["", "key", "K" * 200, "ß" * 60])
    def test_a_packet_as_large_as_it_takes_goes_and_a_larger_one_is_refused_by_name(
        self, small_server: MosquittoServer, key: str
    ) -> None:
        broker = connect(small_server.url())
        with closing(broker.publisher()) as publisher:
            sizes = range(9_600, 10_100, 7)
            with pytest.raises(PublishError) as caught:
                publisher.publish([Message("small.packets", key, bytes(size)) for size in sizes])
        first = caught.value.refused[0]
        assert caught.value.refused == caught.value.unacknowledged == tuple(range(first, len(sizes)))
        assert 10_000 - 60 < sizes[first - 1] + len(key.encode()) + len("small/packets") <= 10_000
        assert "10000" in caught.value.message
        assert "max_packet_size" in caught.value.remedy


def test_topics_are_levels_and_sessions_have_ids_that_every_server_takes() -> None:
    assert mqtt_topic("plant.press_1.pressure-2") == "plant/press_1/pressure-2"
    with pytest.raises(ConfigurationError):
        mqtt_topic("plant/press")
    ids = {session_id(group, topic) for group in ("a", "b", "a\0b") for topic in ("a", "b", "b.a")}
    assert len(ids) == 9
    assert all(len(name) <= 23 and name.isalnum() and name.isascii() for name in ids)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mqtt:", "names no host"),
        ("mqtt://", "names no host"),
        ("mqtt://host/vhost", "'vhost' is too much"),
        ("mqtt://host?windw=5", "did you mean 'window'"),
        ("mqtt://host?window=0", "window must be 1 to 65535"),
        ("mqtt://host?keepalive=0", "keepalive must be"),
        ("mqtt://host?connect_timeout=0", "connect_timeout must be"),
        ("mqtt://host?session_expiry=200y", "session_expiry"),
        ("mqtt://host?max_message_bytes=1GB", "max_message_bytes must be"),
        ("mqtt://host?ca=ca.pem", "certificates are for TLS"),
        ("mqtts://host?key=client.key", "key without cert"),
        ("mqtt://:secret@host", "a password without a user"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_opened(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "very-secret")
    for url in ("mqtt://user:${MQTT_PASSWORD}@host", "mqtt://user:very-secret@host"):
        broker = connect(url)
        assert "very-secret" not in broker.url + repr(broker) + repr(vars(broker))


def test_a_key_that_mqtt_cannot_carry_is_refused() -> None:
    with closing(connect("mqtt://127.0.0.1:1").publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message("a", key, b"value") for key in ("NUL \0", "\ud800", "x" * 65_536)], timeout=1)
    assert caught.value.refused == (0, 1, 2)


def test_a_missing_client_library_is_named_with_its_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigurationError) as caught:
        connect("mqtt://host")
    assert caught.value.remedy == "pip install 'iotcloud[mqtt]'"


def test_the_sample_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "in-the-sample")
    loaded = load_config(Path(ROOT) / "brokers" / "mqtt" / "sample.toml")
    (broker,) = loaded.brokers().values()
    assert broker.url.startswith("mqtts://gw-1:***@mqtt.example.com:8883")


def test_what_follows_a_message_that_failed_is_published_again_after_it() -> None:
    target = target_of(parse_url("mqtt://host"))
    messages = [Message("t", key, b"value") for key in "aabbab"]
    call = Call(target, messages)
    for index in call.to_send(None):
        call.sent(index, packet_id=100 + index)
    quota_exceeded, success, payload_format_invalid = 0x97, 0x00, 0x99
    for index, code in enumerate([success, quota_exceeded, payload_format_invalid, success, success, success]):
        call.answered(100 + index, code)
    error = call.error()
    assert error is not None
    assert error.refused == (2,)
    assert error.unacknowledged == (1, 2, 4)
