"""ActiveMQ keeps the contract, and what is particular to it."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from contextlib import closing
from typing import ClassVar

import pytest

from brokers import Broker, BrokerRefused, Message, Publisher, PublishError, connect
from brokers.subscription import subscribe
from tests.brokers.activemq_kit import all_of, poll_exactly
from tests.brokers.kit import eventually, following, numbered, parse, take
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract
from tests.servers.activemq import MAX_DATA_LENGTH, ActiveMqServer

KEYS = [f"key-{number}" for number in range(20)]


@pytest.mark.slow
class TestActiveMq(ServerContract, QueueContract):
    SERVER = "activemq"
    ALERT: ClassVar = {"heartbeat": "0.4s", "connect_timeout": "1s"}

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

    def test_what_is_too_large_for_the_server_alone_is_refused_and_the_others_are_stored(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        messages = [Message(topic, "a", b"1"), Message(topic, "a", bytes(MAX_DATA_LENGTH + 1)), Message(topic, "a", b"2")]
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            with pytest.raises(PublishError) as caught:
                publisher.publish(messages)
            assert caught.value.unacknowledged == caught.value.refused == (1,)
            self.assert_clear(caught.value, broker, topic)
            assert [delivery.value for delivery in take(reader, 2)] == [b"1", b"2"]

    def test_a_topic_one_may_not_write_holds_up_no_other_and_is_not_given_up(self, server: ActiveMqServer) -> None:
        broker, topic = connect(server.guest_url()), f"open.{uuid.uuid4().hex}"
        with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            messages = [Message(topic, "a", b"1"), Message("closed.one", "a", b"2"), Message(topic, "a", b"3")]
            with pytest.raises(PublishError) as caught:
                publisher.publish(messages)
            assert caught.value.unacknowledged == (1,)
            assert caught.value.refused == ()
            self.assert_clear(caught.value, broker, "closed.one")
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
            assert len(all_of(stays, 3_000)) == 3_000

    def test_a_large_call_is_several_transactions_and_stays_in_order(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        sent = [f"{number} ".encode() + bytes(500_000) for number in range(30)] + [f"{n} ".encode() for n in range(3_000)]
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", value) for value in sent])
            assert all_of(reader, len(sent)) == sent

    def test_what_nobody_reads_is_on_the_disk_and_stops_nobody(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        broker.keep([topic], group="away")
        sent = [f"{number} ".encode() + bytes(500_000) for number in range(180)]  # more than the server's memory
        for begin in range(0, len(sent), 30):
            publisher.publish([Message(topic, "key", value) for value in sent[begin : begin + 30]])
        with following(broker, topic, group="away") as reader:
            assert all_of(reader, len(sent)) == sent

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
