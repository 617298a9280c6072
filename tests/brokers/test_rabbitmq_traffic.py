"""What is particular to publishing to RabbitMQ, reading from it, and the connections to it. All of it needs the server."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import cast

import pytest
from structlog.testing import capture_logs

from brokers import BrokerUnavailable, Message, PublishError, connect
from brokers.rabbitmq.topology import queue_name
from tests.brokers.kit import Numbered, eventually, following, numbered, parse, take
from tests.brokers.patience import publish_patiently
from tests.servers.broker_server import Servers
from tests.servers.rabbitmq import RabbitServer

pytestmark = pytest.mark.slow


@pytest.fixture
def server(servers: Servers) -> RabbitServer:
    return cast("RabbitServer", servers["rabbitmq"])


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


# What is published.


def test_a_topic_that_is_kept_for_no_group_is_dropped_or_refused(server: RabbitServer, topic: str) -> None:
    with closing(connect(server.url()).publisher()) as publisher, capture_logs() as logs:
        for _ in range(3):
            publisher.publish([Message(topic, "key", b"for nobody")] * 3)
    assert [(entry["log_level"], entry["topic"]) for entry in logs] == [("warning", topic)]
    broker = connect(server.url(unread="refuse"))
    messages = numbered(topic, "p", 0, 20)
    with closing(broker.publisher()) as publisher:
        with pytest.raises(PublishError) as caught:
            publisher.publish(messages)
        assert caught.value.unacknowledged == tuple(range(20))
        assert caught.value.refused == ()
        assert topic in caught.value.message
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(messages)
            assert [delivery.value for delivery in take(reader, 20)] == [message.value for message in messages]


def test_what_a_server_has_forgotten_is_made_anew_and_nothing_is_dropped(server: RabbitServer, topic: str) -> None:
    """A server that was set up again, or lost what it was told, while a gateway publishes to a topic it keeps for its readers."""
    broker = connect(server.url())
    broker.keep([topic], group="tests")
    messages = numbered(topic, "p", 0, 20)
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, "p", b"before")])
        connect(server.url()).forget([topic], group="tests")
        with pytest.raises(PublishError) as caught:
            publisher.publish(messages)
        assert caught.value.unacknowledged == tuple(range(20))
        assert caught.value.refused == ()
        assert topic in caught.value.message
        publisher.publish(messages)
    with following(broker, topic) as reader:
        assert [delivery.value for delivery in take(reader, 20)] == [message.value for message in messages]
    broker.forget([topic], group="tests")
    with closing(broker.publisher()) as publisher:
        publisher.publish(messages)


def test_the_servers_own_limit_refuses_what_is_larger_and_nothing_else(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url())
    messages = [Message(topic, "key", value) for value in (b"before", bytes(5_000_000), b"after")]
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, "key", b"first")])
        with pytest.raises(PublishError) as caught:
            publisher.publish(messages)
        assert caught.value.refused == (1,)
        assert "max_message_size" in caught.value.remedy
        publish_patiently(publisher, [messages[index] for index in caught.value.unacknowledged if index != 1])
        # What was on its way when the server closed the channel may be there twice.
        values: list[bytes] = []
        while b"after" not in values:
            values += [delivery.value for delivery in take(reader, 1)]
    assert list(dict.fromkeys(values)) == [b"first", b"before", b"after"]


def test_a_key_too_long_for_a_frame_is_refused(server: RabbitServer, topic: str) -> None:
    with closing(connect(server.url()).publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic, "k" * 200_000, b"1"), Message(topic, "k", b"2"), Message(topic, "\ud800", b"3")])
    assert caught.value.refused == caught.value.unacknowledged == (0, 2)


def test_a_full_queue_is_no_success_and_keeps_the_order(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url())
    definition = '{"max-length": 10, "overflow": "reject-publish"}'
    server.control("set_policy", topic, f":{topic}$", definition, "--apply-to", "queues")
    broker.keep([topic], group="tests")
    messages = numbered(topic, "p", 0, 100)
    with closing(broker.publisher()) as publisher:
        with pytest.raises(PublishError) as caught:
            publisher.publish(messages)
        assert "full" in caught.value.message
        assert caught.value.refused == ()
        missing = [messages[index] for index in caught.value.unacknowledged]
    with closing(broker.publisher()) as publisher:
        with pytest.raises(PublishError) as caught:
            publisher.publish([*missing, Message(f"{topic}-other", "key", b"value")])
        assert caught.value.unacknowledged == tuple(range(len(missing)))
        server.control("clear_policy", topic)
        publisher.publish(missing)
    received: list[int] = []
    with following(broker, topic) as reader:
        # Those stored behind one that was not are there twice.
        while len(set(received)) < 100:
            received += [parse(delivery.value).index for delivery in take(reader, 1)]
    assert list(dict.fromkeys(received)) == list(range(100))


@contextmanager
def short_of_memory(server: RabbitServer) -> Iterator[Callable[[], None]]:
    """A server in alarm, until what this yields is called, or the block ends."""

    def recover() -> None:
        server.control("set_vm_memory_high_watermark", "absolute", "1GB")

    server.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield recover
    finally:
        recover()


def test_a_server_that_blocks_publishers_is_given_up_at_the_deadline_and_goes_on_later(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url())
    messages = numbered(topic, "p", 0, 50)
    with following(broker, topic) as reader, short_of_memory(server) as recover:
        reader.poll(max_messages=1, timeout=0)
        with closing(broker.publisher()) as publisher:
            with pytest.raises(PublishError) as caught:
                publisher.publish(messages, timeout=2)
            assert caught.value.unacknowledged == tuple(range(50))
            assert "low on memory" in caught.value.message
            recover()
            publish_patiently(publisher, messages)
        received: list[int] = []
        while len(set(received)) < 50:
            received += [parse(delivery.value).index for delivery in take(reader, 1)]
        received += [parse(delivery.value).index for delivery in reader.poll(max_messages=100, timeout=0.5)]
    assert list(dict.fromkeys(received)) == list(range(50))
    assert len(received) <= 51, "of what was given up, one message at most was on its way"


# Connections.


def test_neither_idle_nor_busy_users_lose_their_connection(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url(heartbeat="1"))

    def connections() -> set[str]:
        return set(server.control("list_connections", "pid", "timeout").split("\n"))

    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 5))
        held = take(reader, 5, acknowledge=False)
        before = connections()
        assert sum(line.endswith("\t1") for line in before) == 2
        # The server drops a client after two heartbeats of silence.
        time.sleep(5)
        assert connections() == before
        reader.acknowledge(held)
        publisher.publish(numbered(topic, "p", 1, 5))
        assert [parse(delivery.value).call for delivery in take(reader, 5)] == [1] * 5


def test_closing_ends_a_reader_that_is_connecting(server: RabbitServer, topic: str) -> None:
    server.proxy.hang()
    reader = connect(server.proxied_url()).queue_reader([topic], group="tests")
    ended = threading.Event()

    def poll() -> None:
        with suppress(BrokerUnavailable):
            reader.poll(max_messages=1, timeout=300)
        ended.set()

    threading.Thread(target=poll, daemon=True).start()
    assert not ended.wait(0.3)
    reader.close()
    assert ended.wait(5)


def test_what_is_closed_stays_closed(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url())
    publisher, reader = broker.publisher(), broker.queue_reader([topic], group="tests")
    publisher.publish(numbered(topic, "p", 0, 1))
    for part in (publisher, reader):
        part.close()
    with pytest.raises(PublishError, match="closed"):
        publisher.publish(numbered(topic, "p", 1, 1))
    assert list(reader.poll(max_messages=1, timeout=1)) == []


def test_closing_leaves_nothing_behind(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url(heartbeat="77"))
    broker.keep([topic], group="tests")
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 1))
        take(reader, 1)
    eventually(lambda: "77" not in server.control("list_connections", "timeout").split(), "the connections are closed")
    eventually(lambda: not any(thread.name.startswith("amqp-") for thread in threading.enumerate()), "the threads have ended")


# Reading.


def test_a_reader_of_several_topics_has_each_in_order(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url(prefetch="10"))
    topics = [f"{topic}-{number}" for number in range(3)]
    with closing(broker.queue_reader(topics, group="tests")) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([message for name in topics for message in numbered(name, name, 0, 50)])
        received: dict[str, list[int]] = {name: [] for name in topics}
        while sum(map(len, received.values())) < 150:
            deliveries = reader.poll(max_messages=17, timeout=30)
            assert deliveries
            for delivery in deliveries:
                assert parse(delivery.value).publisher == delivery.topic
                received[delivery.topic].append(parse(delivery.value).index)
            reader.acknowledge(deliveries)
    assert list(received.values()) == [list(range(50))] * 3


def test_the_server_holds_back_what_is_beyond_the_prefetch(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url(prefetch="7"))
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 30))
        held = take(reader, 7, acknowledge=False)
        assert list(reader.poll(max_messages=100, timeout=0.3)) == []
        # In any order, some twice.
        reader.acknowledge([held[3], held[5], held[0]])
        reader.acknowledge([held[5], *held[1:3]])
        rest = take(reader, 5, acknowledge=False)
        assert not any(delivery.redelivered for delivery in (*held, *rest))
    with following(broker, topic) as reader:
        again = []
        while len(again) < 25:
            again += take(reader, 1)
    assert [parse(delivery.value).index for delivery in again] == [4, 6, *range(7, 30)]
    assert [delivery.redelivered for delivery in again[:7]] == [True] * 7
    assert not again[-1].redelivered


def test_acknowledging_over_a_lost_connection_says_that_it_comes_again(server: RabbitServer, topic: str) -> None:
    broker = connect(server.proxied_url())
    with following(broker, topic) as reader, closing(connect(server.url()).publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 10))
        held = take(reader, 10, acknowledge=False)
        server.proxy.cut()
        with pytest.raises(BrokerUnavailable, match="comes again"):
            reader.acknowledge(held)
        server.proxy.restore()
        again = take(reader, 10)
        # What is held from before must not touch the new connection, whose numbers are the same.
        with pytest.raises(BrokerUnavailable, match="comes again"):
            reader.reject(held)
        publisher.publish(numbered(topic, "p", 1, 1))
        assert [parse(delivery.value).call for delivery in take(reader, 1)] == [1]
    assert [parse(delivery.value).index for delivery in again] == list(range(10))
    assert all(delivery.redelivered for delivery in again)


def test_a_single_active_consumer_keeps_the_order_whatever_the_number_of_readers(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url(single_active_consumer="true"))
    with following(broker, topic) as first, following(broker, topic) as second, closing(broker.publisher()) as publisher:
        for reader in (first, second):
            reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 20))
        received = take(first, 10, acknowledge=False)[:10]
        first.acknowledge(received)
        assert list(second.poll(max_messages=100, timeout=0.3)) == []
        first.close()
        received += take(second, 10)
    assert [parse(delivery.value) for delivery in received] == [Numbered("p", 0, index) for index in range(20)]


def test_a_queue_that_is_deleted_while_it_is_read_is_made_again(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url())
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        server.control("delete_queue", queue_name("tests", topic))
        reader.poll(max_messages=1, timeout=0.3)
        publisher.publish([Message(topic, "key", b"value")])
        assert [delivery.value for delivery in take(reader, 1)] == [b"value"]


def test_the_queue_of_a_group_that_went_away_expires(server: RabbitServer, topic: str) -> None:
    with following(connect(server.url(expires="500ms")), topic, group="passing") as reader:
        reader.poll(max_messages=1, timeout=0)
    eventually(lambda: topic not in server.control("list_queues", "name"), "the queue is gone")
