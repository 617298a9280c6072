"""ActiveMQ keeps the contract, and what is particular to it."""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
import uuid
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import brokers.activemq
from brokers import Broker, BrokerRefused, BrokerUnavailable, Delivery, Message, Publisher, PublishError, QueueReader, connect
from brokers.activemq.names import read_from
from brokers.activemq.transport import WireTransport
from brokers.activemq.wire import Wire
from brokers.subscription import subscribe
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import PATIENCE, eventually, following, numbered, parse, take
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract, acknowledge_or_again, poll_patiently, publishing_again_and_again
from tests.servers.activemq import MAX_DATA_LENGTH, ActiveMqServer
from tests.servers.ports import free_port

KEYS = [f"key-{number}" for number in range(20)]


@pytest.mark.slow
class TestActiveMq(ServerContract, QueueContract):
    SERVER = "activemq"

    @pytest.mark.parametrize("name", ["a..b", ".a", "a.", "...", "-", "VirtualTopic.x", "Consumer.x.VirtualTopic.y", "A", "a"])
    def test_any_topic_is_a_destination_of_its_own(self, broker: Broker, publisher: Publisher, name: str) -> None:
        group = uuid.uuid4().hex
        with following(broker, name, group=group) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", topic.encode()) for topic in (name, name + ".x", "x." + name)])
            assert [(delivery.topic, delivery.value) for delivery in take(reader, 1)] == [(name, name.encode())]

    def test_any_group_is_a_group_of_its_own(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        groups = ["a", "A", "a.b", "a%2Eb", "*", ">", "a,b", "a b", "Gruppe-ß", "a/b?c=d"]
        for group in groups:
            broker.keep([topic], group=group)
        publisher.publish([Message(topic, "key", b"to all")])
        for group in groups:
            with following(broker, topic, group=group) as reader:
                assert [delivery.value for delivery in take(reader, 1)] == [b"to all"]

    def test_any_key_arrives_as_it_was(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        keys = ["a:b\\c\nd\re", " lead", "trail ", "", "😀\x01\x7f", "\\n", "x" * 4096, "null", "a\u2028b"]
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, key, b"value") for key in keys])
            assert [delivery.key for delivery in take(reader, len(keys))] == keys

    @pytest.mark.parametrize("key", ["a\0b", "\ud800", "ß" * 2049])
    def test_a_key_that_fits_no_header_is_refused_and_the_others_are_stored(
        self, broker: Broker, topic: str, publisher: Publisher, key: str
    ) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            with pytest.raises(PublishError) as caught:
                publisher.publish([Message(topic, "a", b"1"), Message(topic, key, b"2"), Message(topic, "a", b"3")])
            assert caught.value.refused == caught.value.unacknowledged == (1,)
            self.assert_clear(caught.value, broker, topic)
            assert [delivery.value for delivery in take(reader, 2)] == [b"1", b"3"]

    def test_what_is_too_large_for_the_server_alone_is_named(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        messages = [Message(topic, "a", b"1"), Message(topic, "a", bytes(MAX_DATA_LENGTH + 1)), Message(topic, "a", b"2")]
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            with pytest.raises(PublishError) as caught:
                publisher.publish(messages)
            assert caught.value.unacknowledged == (0, 1, 2)
            assert caught.value.refused == (1,)
            self.assert_clear(caught.value, broker, topic)
            publisher.publish([messages[0], messages[2]])
            assert [delivery.value for delivery in take(reader, 2)] == [b"1", b"2"]

    def test_a_topic_one_may_not_write_is_refused_and_nothing_of_the_call_overtakes(self, server: ActiveMqServer) -> None:
        broker, topic = connect(server.guest_url()), f"open.{uuid.uuid4().hex}"
        with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            messages = [Message(topic, "a", b"1"), Message("closed.one", "a", b"2"), Message(topic, "a", b"3")]
            with pytest.raises(PublishError) as caught:
                publisher.publish(messages)
            assert caught.value.unacknowledged == (0, 1, 2)
            assert caught.value.refused == (1,)
            self.assert_clear(caught.value, broker, "closed.one")
            publisher.publish([messages[0], messages[2]])
            assert [delivery.value for delivery in take(reader, 2)] == [b"1", b"3"]

    def test_a_topic_one_may_not_read_is_refused_by_name(self, server: ActiveMqServer) -> None:
        broker = connect(server.guest_url())
        with closing(subscribe(broker, ["closed.one"], group="tests")) as reader, pytest.raises(BrokerRefused) as caught:
            reader.poll(max_messages=1, timeout=10)
        self.assert_clear(caught.value, broker, "closed.one")
        for administer in (broker.keep, broker.forget):
            with pytest.raises(BrokerRefused) as caught:
                administer(["closed.one"], group="tests")
            self.assert_clear(caught.value, broker, "closed.one")

    def test_forgetting_empties_a_queue_of_any_length(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        broker.keep([topic], group="gone")
        broker.keep([topic], group="stays")
        publisher.publish([Message(topic, "key", bytes(100)) for _ in range(3_000)])
        broker.forget([topic], group="gone")
        with following(broker, topic, group="gone") as gone, following(broker, topic, group="stays") as stays:
            assert list(gone.poll(max_messages=1, timeout=0.5)) == []
            assert len(self.values_one_by_one(stays, 3_000)) == 3_000

    def test_a_large_call_is_several_transactions_and_stays_in_order(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        sent = [f"{number} ".encode() + bytes(500_000) for number in range(30)] + [f"{n} ".encode() for n in range(3_000)]
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", value) for value in sent])
            assert self.values_one_by_one(reader, len(sent)) == sent

    def test_more_than_is_held_here_waits_at_the_server_and_the_connection_lives(
        self, server: ActiveMqServer, topic: str, publisher: Publisher
    ) -> None:
        sent = [f"{number} ".encode() + bytes(500_000) for number in range(60)]
        with following(connect(server.url(heartbeat="0.4s")), topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", value) for value in sent])
            first = poll_exactly(reader, 1)
            time.sleep(3)  # for more to come than there is room for, and some heartbeats
            reader.acknowledge(first)
            assert [first[0].value, *self.values_one_by_one(reader, len(sent) - 1)] == sent

    def test_acknowledging_a_later_one_leaves_the_earlier(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 10))
            received = take(reader, 10, acknowledge=False)
            reader.acknowledge([received[9], received[3], received[9]])
            reader.acknowledge([received[3]])
        with following(broker, topic) as reader:
            again = take(reader, 8)
        assert [delivery.value for delivery in again] == [received[index].value for index in (0, 1, 2, 4, 5, 6, 7, 8)]

    def test_rejected_deliveries_come_in_their_order_and_before_others(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 10))
            first = poll_exactly(reader, 6)
            reader.reject([first[4], first[2]])
            reader.reject([first[0], first[1]])
            reader.acknowledge([first[index] for index in (1, 3, 5)])
            rest = poll_exactly(reader, 7)
        assert [parse(delivery.value).index for delivery in rest] == [0, 2, 4, 6, 7, 8, 9]

    def test_cut_off_again_and_again_all_arrive_and_first_in_order(
        self, server: ActiveMqServer, proxied: Broker, topic: str
    ) -> None:
        first: dict[bytes, None] = {}
        with following(proxied, topic) as reader, closing(proxied.publisher()) as publisher:
            poll_patiently(reader)
            with publishing_again_and_again(publisher, topic, calls=100, per_call=20) as progress:
                for cut_at in range(5, 100, 8):

                    def enough(calls: int = cut_at) -> bool:
                        return self.read_on(reader, first) >= 10 * calls and progress.done >= calls

                    eventually(enough, "some more came")
                    server.proxy.cut()
                    server.proxy.restore()
                eventually(lambda: self.read_on(reader, first) == 2_000, "all came")
        found = [parse(value) for value in first]
        assert found == sorted(found)

    def test_acknowledging_over_a_lost_connection_is_an_error_and_they_come_again(
        self, server: ActiveMqServer, broker: Broker, proxied: Broker, topic: str, publisher: Publisher
    ) -> None:
        with following(proxied, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 5))
            received = take(reader, 5, acknowledge=False)
            server.proxy.cut()
            with pytest.raises(BrokerUnavailable) as caught:
                reader.acknowledge(received)
            self.assert_clear(caught.value, proxied, topic)
            server.proxy.restore()
            with pytest.raises(BrokerUnavailable):
                reader.acknowledge(received)
            again = take(reader, 5, acknowledge=False)
            assert [delivery.value for delivery in again] == [delivery.value for delivery in received]
            with pytest.raises(BrokerUnavailable):
                reader.acknowledge(received)
            reader.acknowledge(again)

    def test_readers_of_a_group_have_their_own_keys_in_order(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        sent = [Message(topic, random.choice(KEYS), str(number).encode()) for number in range(600)]
        with following(broker, topic) as one, following(broker, topic) as other:
            readers = {"one": one, "other": other}
            for reader in readers.values():
                reader.poll(max_messages=1, timeout=0)
            found: dict[str, list[bytes]] = defaultdict(list)
            owners: dict[str, set[str]] = defaultdict(set)
            count = 0
            publisher.publish(sent)

            def drained() -> bool:
                nonlocal count
                for name, reader in readers.items():
                    deliveries = reader.poll(max_messages=7, timeout=0.05)
                    for delivery in deliveries:
                        found[delivery.key].append(delivery.value)
                        owners[delivery.key].add(name)
                    reader.acknowledge(deliveries)
                    count += len(deliveries)
                return count >= len(sent)

            eventually(drained, "all came")
        expected: dict[str, list[bytes]] = defaultdict(list)
        for message in sent:
            expected[message.key].append(message.value)
        assert found == expected
        assert all(len(names) == 1 for names in owners.values())
        assert len(set.union(*owners.values())) == 2, "both had some"

    def test_the_keys_of_a_reader_that_ends_go_on_in_order_with_another(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        with following(broker, topic) as other, following(broker, topic) as one:
            for reader in (one, other):
                reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, key, str(number).encode()) for number in range(30) for key in KEYS])
            held = take(one, 50, acknowledge=False)
            one.close()
            found: dict[str, list[int]] = defaultdict(list)
            for delivery in take(other, 30 * len(KEYS)):
                found[delivery.key].append(int(delivery.value))
        assert held
        assert found == {key: list(range(30)) for key in KEYS}

    def test_an_idle_connection_lives_as_long_as_both_sides_give_signs_of_life(self, server: ActiveMqServer, topic: str) -> None:
        broker = connect(server.url(heartbeat="0.4s"))
        with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 2))
            received = take(reader, 2, acknowledge=False)
            time.sleep(4)
            # Over another connection than theirs they could not be acknowledged.
            reader.acknowledge(received)
            publisher.publish(numbered(topic, "p", 1, 1))
            assert [delivery.redelivered for delivery in take(reader, 1)] == [False]

    def test_a_server_that_falls_silent_is_noticed_by_who_only_waits(self, server: ActiveMqServer, topic: str) -> None:
        broker = connect(server.proxied_url(heartbeat="0.4s", connect_timeout="1s"))
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            server.proxy.hang()
            with pytest.raises(BrokerUnavailable) as caught:
                reader.poll(max_messages=1, timeout=PATIENCE)
            self.assert_clear(caught.value, broker, topic)

    def test_without_heartbeats_it_works_too(self, server: ActiveMqServer, topic: str) -> None:
        broker = connect(server.url(heartbeat="0s", message_groups="false"))
        with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 2))
            assert len(take(reader, 2)) == 2

    def test_the_next_host_is_taken_when_one_is_away(self, server: ActiveMqServer, topic: str) -> None:
        broker = connect(server.url().replace("@", f"@127.0.0.1:{free_port()},"))
        with closing(broker.publisher()) as publisher:
            publisher.publish(numbered(topic, "p", 0, 1), timeout=10)

    def test_a_client_certificate_is_shown_to_a_server_that_asks(self, server: ActiveMqServer, topic: str) -> None:
        made = server.certificates
        with closing(connect(server.mutual_tls_url(cert=str(made.client_cert), key=str(made.client_key))).publisher()) as known:
            known.publish(numbered(topic, "p", 0, 1))
        broker = connect(server.mutual_tls_url())
        with closing(broker.publisher()) as stranger, pytest.raises(PublishError) as caught:
            stranger.publish(numbered(topic, "p", 0, 1), timeout=10)
        self.assert_clear(caught.value, broker, topic)

    def test_without_a_ca_the_authorities_of_the_system_are_trusted_and_no_others(
        self, server: ActiveMqServer, topic: str
    ) -> None:
        broker = connect(str(server.tls_url()).partition("?")[0])
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError, match="certificate"):
            publisher.publish(numbered(topic, "p", 0, 1), timeout=10)

    def test_large_messages_over_tls_both_ways_at_once(self, server: ActiveMqServer, topic: str) -> None:
        sent = [random.randbytes(300_000) for _ in range(20)]
        broker = connect(str(server.tls_url()))
        with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", value) for value in sent])
            assert self.values_one_by_one(reader, len(sent)) == sent

    def test_tls_to_a_port_without_it_is_given_up(self, server: ActiveMqServer, topic: str) -> None:
        broker = connect(server.url().replace("stomp:", "stomp+ssl:"))
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish(numbered(topic, "p", 0, 1), timeout=3)
        self.assert_clear(caught.value, broker, topic)

    @staticmethod
    def read_on(reader: QueueReader, found: dict[bytes, None]) -> int:
        """How many different values there are after one more poll."""
        deliveries = poll_patiently(reader)
        found.update(dict.fromkeys(delivery.value for delivery in deliveries))
        acknowledge_or_again(reader, deliveries)
        return len(found)

    @staticmethod
    def values_one_by_one(reader: QueueReader, count: int) -> list[bytes]:
        found: list[bytes] = []

        def drained() -> bool:
            deliveries = reader.poll(max_messages=100, timeout=1)
            reader.acknowledge(deliveries)
            found.extend(delivery.value for delivery in deliveries)
            return len(found) >= count

        eventually(drained, f"{count} came")
        return found


def poll_exactly(reader: QueueReader, count: int) -> list[Delivery]:
    found: list[Delivery] = []

    def enough() -> bool:
        found.extend(reader.poll(max_messages=count - len(found), timeout=1))
        return len(found) == count

    eventually(enough, f"{count} came")
    return found


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("stomp://host/path", "stomp://HOST"),
        ("stomp:host", "stomp://HOST"),
        ("stomp://host?heartbeats=5s", "did you mean 'heartbeat'"),
        ("stomp://host?ca=/ca.pem", "stomp+ssl"),
        ("stomp+ssl://host?cert=/cert.pem", "belong together"),
        ("stomp://host?prefetch=0", "prefetch"),
        ("stomp://host?connect_timeout=0s", "connect_timeout"),
        ("stomp://me: secret@host", "begins or ends with a blank"),
    ],
)
def test_what_a_url_may_not_say(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_is_in_nothing_that_is_shown() -> None:
    broker = connect("stomp://me:secret@host")
    for part in (broker, broker.publisher(), broker.queue_reader(["topic"], group="g")):
        assert "secret" not in repr(part) + repr(vars(part))


def test_files_for_tls_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    broker = connect(f"stomp+ssl://127.0.0.1:{free_port()}?ca={tmp_path}/missing.pem")
    with closing(broker.queue_reader(["topic"], group="g")) as reader, pytest.raises(BrokerRefused, match=r"missing\.pem"):
        reader.poll(max_messages=1, timeout=1)


def test_without_the_client_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stomp", None)
    with pytest.raises(ConfigurationError) as caught:
        connect("stomp://host")
    assert "pip install 'iotcloud[activemq]'" in str(caught.value)


def test_the_sample_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEMQ_PASSWORD", "secret")
    loaded = load_config(Path(brokers.activemq.__file__).parent / "sample.toml")
    assert [type(broker).__name__ for broker in loaded.brokers().values()] == ["ActiveMqBroker"]


def test_no_group_can_leave_its_place_in_the_name_of_a_queue() -> None:
    assert read_from("a.b", "g") == "/queue/Consumer.g.VirtualTopic.a.b"
    assert read_from("a.b", "x.y,z>*") == "/queue/Consumer.x%2Ey%2Cz%3E%2A.VirtualTopic.a.b"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_signs_of_life_between_frames_do_not_tear_them(size: int) -> None:
    body = b"\0\n\n\0MESSAGE\n\n\0"
    message = b"MESSAGE\nsubscription:0\ncontent-length:%d\n\n%s\0" % (len(body), body)
    stream = b"\n\n" + message + b"\n\n\n" + message + b"\n" + message
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport = WireTransport(Wire(ours, lambda: False), lambda seconds: True)
    listener = Listener()
    transport.set_listener("test", listener)
    with closing(theirs):
        transport.start()
        for begin in range(0, len(stream), size):
            theirs.sendall(stream[begin : begin + size])
    assert listener.ended.wait(PATIENCE)
    assert listener.bodies == [body] * 3


class Listener:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ended = threading.Event()

    def on_message(self, frame: Any) -> None:
        self.bodies.append(frame.body)

    def on_disconnected(self) -> None:
        self.ended.set()
