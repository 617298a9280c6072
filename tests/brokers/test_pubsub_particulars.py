"""What is particular to Pub/Sub on its server: subscriptions, messages, refusals, leases."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from brokers import Broker, BrokerRefused, Message, PublishError, connect
from brokers.pubsub.names import subscriptions_of, topic_of
from brokers.url import parse_url
from tests.brokers.kit import take
from tests.servers.broker_server import Servers
from tests.servers.pubsub import PubsubServer

GROUP = "tests"


@pytest.fixture
def broker(servers: Servers) -> Broker:
    return connect(servers["pubsub"].url())


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


class Bare:
    """The server without our broker."""

    def __init__(self, url: str) -> None:
        self.channel = grpc.insecure_channel(parse_url(url).options["emulator"])
        self.publisher: Any = PublisherGrpcTransport(channel=self.channel)
        self.subscriber: Any = SubscriberGrpcTransport(channel=self.channel)

    def subscription(self, topic: str) -> Any:
        return self.subscriber.get_subscription(types.GetSubscriptionRequest(subscription=subscription_path(topic)))


@pytest.fixture
def bare(servers: Servers) -> Iterator[Bare]:
    bare = Bare(servers["pubsub"].url())
    yield bare
    bare.channel.close()


@contextmanager
def refusing(directory: Path, refuse: str) -> Iterator[PubsubServer]:
    """A server that refuses some calls."""
    server = PubsubServer(directory, refuse=refuse)
    server.process.start()
    try:
        yield server
    finally:
        server.process.stop()
        server.proxy.close()


def subscription_path(topic: str) -> str:
    (found,) = subscriptions_of("tests", [topic], GROUP)
    return found.path


# Subscriptions and messages.


def test_a_subscription_keeps_the_order_and_never_expires(servers: Servers, bare: Bare, topic: str) -> None:
    connect(servers["pubsub"].url(exactly_once="true", retention="1h", ack_deadline="20s")).keep([topic], group=GROUP)
    made = bare.subscription(topic)
    assert made.enable_message_ordering
    assert made.enable_exactly_once_delivery
    assert made.ack_deadline_seconds == 20
    assert made.message_retention_duration.total_seconds() == 3600
    assert "expiration_policy" in made
    assert not made.expiration_policy.ttl


def test_a_subscription_that_keeps_no_order_is_refused(broker: Broker, bare: Bare, topic: str) -> None:
    path = topic_of("tests", topic).path
    bare.publisher.create_topic(types.Topic(name=path))
    bare.subscriber.create_subscription(types.Subscription(name=subscription_path(topic), topic=path))
    with pytest.raises(BrokerRefused, match="does not keep the order") as caught:
        broker.keep([topic], group=GROUP)
    assert subscription_path(topic) in caught.value.remedy


def test_a_subscription_to_a_topic_that_was_deleted_is_refused(broker: Broker, bare: Bare, topic: str) -> None:
    broker.keep([topic], group=GROUP)
    bare.publisher.delete_topic(types.DeleteTopicRequest(topic=topic_of("tests", topic).path))
    broker.create_topic(topic)
    with closing(broker.queue_reader([topic], group=GROUP)) as reader, pytest.raises(BrokerRefused, match="deleted"):
        reader.poll(max_messages=1, timeout=5)


def test_nothing_is_made_where_nothing_may_be_made(servers: Servers, broker: Broker, topic: str) -> None:
    strict = connect(servers["pubsub"].url(create="false"))
    with closing(strict.publisher()) as publisher:
        with pytest.raises(PublishError) as caught:
            publisher.publish([Message(topic, "key", b"value")])
        # Somebody may yet make it: then the message is taken, as below.
        assert (caught.value.unacknowledged, caught.value.refused) == ((0,), ())
        assert topic in caught.value.message
        assert "make the topic" in caught.value.remedy
        with closing(strict.queue_reader([topic], group=GROUP)) as reader, pytest.raises(BrokerRefused, match=topic):
            reader.poll(max_messages=1, timeout=5)
        broker.keep([topic], group=GROUP)
        publisher.publish([Message(topic, "key", b"value")])
    with closing(strict.queue_reader([topic], group=GROUP)) as reader:
        assert [delivery.value for delivery in take(reader, 1)] == [b"value"]


def test_empty_values_and_keys_arrive_and_long_keys_are_refused(broker: Broker, topic: str) -> None:
    broker.keep([topic], group=GROUP)
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, "", b""), Message(topic, "ä" * 512, b"1")])
        with pytest.raises(PublishError, match="too long") as caught:
            publisher.publish([Message(topic, "k", b"2"), Message(topic, "ä" * 513, b"3")])
    assert caught.value.refused == caught.value.unacknowledged == (1,)
    with closing(broker.queue_reader([topic], group=GROUP)) as reader:
        received = {(delivery.key, delivery.value) for delivery in take(reader, 3)}
    assert received == {("", b""), ("ä" * 512, b"1"), ("k", b"2")}


def test_messages_of_other_publishers_have_their_ordering_key_as_key(broker: Broker, bare: Bare, topic: str) -> None:
    broker.keep([topic], group=GROUP)
    messages = [types.PubsubMessage(data=b"theirs", ordering_key="their key"), types.PubsubMessage(data=b"without")]
    bare.publisher.publish(types.PublishRequest(topic=topic_of("tests", topic).path, messages=messages))
    with closing(broker.queue_reader([topic], group=GROUP)) as reader:
        received = {(delivery.key, delivery.value) for delivery in take(reader, 2)}
    assert received == {("their key", b"theirs"), ("", b"without")}


@pytest.mark.slow
def test_a_call_of_many_keys_and_large_batches_is_stored_whole_and_in_order(broker: Broker, topic: str) -> None:
    broker.keep([topic], group=GROUP)
    sent = [Message(topic, f"key-{number % 300}", bytes([number // 300])) for number in range(900)]
    sent += [Message(topic, "large", bytes([number]) * 700_000) for number in range(8)]
    with closing(broker.publisher()) as publisher:
        publisher.publish(sent)
    received: dict[str, list[bytes]] = {}
    with closing(broker.queue_reader([topic], group=GROUP)) as reader:
        for delivery in take(reader, len(sent)):
            received.setdefault(delivery.key, []).append(delivery.value)
    assert received.pop("large") == [bytes([number]) * 700_000 for number in range(8)]
    assert received == {f"key-{number}": [b"\0", b"\1", b"\2"] for number in range(300)}


def test_one_reader_of_more_topics_than_one_connection_carries(broker: Broker) -> None:
    topics = [f"site.app-{uuid.uuid4().hex[:12]}.channel" for _ in range(120)]
    with closing(broker.queue_reader(topics, group=GROUP)) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, "key", topic.encode()) for topic in topics])
        received = take(reader, len(topics))
    assert sorted(delivery.topic for delivery in received) == sorted(topics)
    assert all(delivery.value == delivery.topic.encode() for delivery in received)


def test_a_reader_holds_no_more_than_it_may(servers: Servers, topic: str) -> None:
    broker = connect(servers["pubsub"].url(max_outstanding="5"))
    broker.keep([topic], group=GROUP)
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, f"key-{number}", b"value") for number in range(20)])
    with closing(broker.queue_reader([topic], group=GROUP)) as reader:
        held = take(reader, 5, acknowledge=False)
        assert len(held) == 5
        assert list(reader.poll(max_messages=10, timeout=0.3)) == []
        reader.acknowledge(held)
        rest = take(reader, 15)
    assert len({delivery.key for delivery in (*held, *rest)}) == 20


def test_a_subscription_that_is_gone_when_a_reader_connects_again_is_made_again(
    servers: Servers, broker: Broker, topic: str
) -> None:
    server = servers["pubsub"]
    with closing(connect(server.proxied_url()).queue_reader([topic], group=GROUP)) as reader:
        reader.poll(max_messages=1, timeout=0)
        broker.forget([topic], group=GROUP)
        server.proxy.cut()
        server.proxy.restore()
        reader.poll(max_messages=1, timeout=1)
        with closing(broker.publisher()) as publisher:
            publisher.publish([Message(topic, "key", b"value")])
        assert [delivery.value for delivery in take(reader, 1)] == [b"value"]


# Refusals.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "word", "refused"),
    [(7, "roles/pubsub", False), (16, "credentials", False), (3, "limits", True), (8, "quota", False)],
)
def test_a_publish_that_is_refused_says_what_to_do(tmp_path: Path, code: int, word: str, refused: bool) -> None:
    with (
        refusing(tmp_path, f"Publish={code}") as server,
        closing(connect(server.url()).publisher()) as publisher,
        pytest.raises(PublishError) as caught,
    ):
        publisher.publish([Message("some.topic", "key", b"1"), Message("some.topic", "key", b"2")], timeout=10)
    assert caught.value.unacknowledged == (0, 1)
    # What only wants a right or a quota may yet be taken, and must not be thrown away.
    assert caught.value.refused == ((0, 1) if refused else ())
    assert "some.topic" in caught.value.message
    assert word in caught.value.remedy


@pytest.mark.slow
def test_an_account_that_may_make_nothing_is_told_so(tmp_path: Path) -> None:
    with refusing(tmp_path, "CreateTopic=7,CreateSubscription=7,GetSubscription=7") as server:
        broker = connect(server.url())
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError, match="making the topic") as caught:
            publisher.publish([Message("some.topic", "key", b"value")], timeout=10)
        assert caught.value.refused == ()
        reader = broker.queue_reader(["some.topic"], group=GROUP)
        with closing(reader), pytest.raises(BrokerRefused, match=r"some\.topic"):
            reader.poll(max_messages=1, timeout=10)


@pytest.mark.slow
def test_an_account_that_may_only_pull_reads_what_was_made_for_it(tmp_path: Path) -> None:
    with refusing(tmp_path, "GetSubscription=7") as server:
        connect(server.url()).keep(["some.topic"], group=GROUP)
        with closing(connect(server.url(create="false")).queue_reader(["some.topic"], group=GROUP)) as reader:
            assert list(reader.poll(max_messages=1, timeout=0)) == []
            with closing(connect(server.url()).publisher()) as publisher:
                publisher.publish([Message("some.topic", "key", b"value")])
            assert [delivery.value for delivery in take(reader, 1)] == [b"value"]


# Leases.


@pytest.mark.slow
def test_deliveries_stay_with_the_reader_that_works_on_them(broker: Broker, topic: str) -> None:
    broker.keep([topic], group=GROUP)
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, "key", b"long work")])
    with closing(broker.queue_reader([topic], group=GROUP)) as one, closing(broker.queue_reader([topic], group=GROUP)) as other:
        (held,) = take(one, 1, acknowledge=False)
        # Beyond the deadline of the subscription, 10 s.
        assert list(other.poll(max_messages=1, timeout=14)) == []
        one.acknowledge([held])
        assert list(other.poll(max_messages=1, timeout=0.3)) == []
