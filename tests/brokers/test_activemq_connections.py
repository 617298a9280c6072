"""Connections to ActiveMQ: silent, idle, cut, of several hosts, with TLS."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from brokers import Broker, BrokerUnavailable, Message, Publisher, PublishError, connect
from tests.brokers.activemq_kit import all_of, poll_exactly, read_on
from tests.brokers.contract import BrokerContract
from tests.brokers.kit import eventually, following, numbered, parse, take
from tests.brokers.patience import poll_patiently, publishing_again_and_again
from tests.servers.activemq import ActiveMqServer
from tests.servers.broker_server import Servers
from tests.servers.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def server(servers: Servers) -> ActiveMqServer:
    return cast("ActiveMqServer", servers["activemq"])


@pytest.fixture
def proxied(server: ActiveMqServer) -> Broker:
    """Over a network that can fail."""
    return connect(server.proxied_url())


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


@pytest.fixture
def publisher(server: ActiveMqServer) -> Iterator[Publisher]:
    with closing(connect(server.url()).publisher()) as publisher:
        yield publisher


def test_more_than_is_held_here_waits_at_the_server_and_the_connection_lives(
    server: ActiveMqServer, topic: str, publisher: Publisher
) -> None:
    sent = [f"{number} ".encode() + bytes(500_000) for number in range(60)]
    with following(connect(server.url(heartbeat="0.4s")), topic) as reader:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, "key", value) for value in sent])
        first = poll_exactly(reader, 1)
        time.sleep(3)  # for more to come than there is room for, and some heartbeats
        reader.acknowledge(first)
        assert [first[0].value, *all_of(reader, len(sent) - 1)] == sent


def test_cut_off_again_and_again_all_arrive_and_first_in_order(server: ActiveMqServer, proxied: Broker, topic: str) -> None:
    first: dict[bytes, None] = {}
    with following(proxied, topic) as reader, closing(proxied.publisher()) as publisher:
        poll_patiently(reader)
        with publishing_again_and_again(publisher, topic, calls=100, per_call=20) as progress:
            for cut_at in range(5, 100, 8):

                def enough(calls: int = cut_at) -> bool:
                    return read_on(reader, first) >= 10 * calls and progress.done >= calls

                eventually(enough, "some more came")
                server.proxy.cut()
                server.proxy.restore()
            eventually(lambda: read_on(reader, first) == 2_000, "all came")
    found = [parse(value) for value in first]
    assert found == sorted(found)


def test_acknowledging_over_a_lost_connection_is_an_error_and_they_come_again(
    server: ActiveMqServer, proxied: Broker, topic: str, publisher: Publisher
) -> None:
    with following(proxied, topic) as reader:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 5))
        received = take(reader, 5, acknowledge=False)
        server.proxy.cut()
        with pytest.raises(BrokerUnavailable) as caught:
            reader.acknowledge(received)
        BrokerContract.assert_clear(caught.value, proxied, topic)
        server.proxy.restore()
        with pytest.raises(BrokerUnavailable):
            reader.acknowledge(received)
        again = take(reader, 5, acknowledge=False)
        assert [delivery.value for delivery in again] == [delivery.value for delivery in received]
        with pytest.raises(BrokerUnavailable):
            reader.acknowledge(received)
        reader.acknowledge(again)


def test_an_idle_connection_lives_as_long_as_both_sides_give_signs_of_life(server: ActiveMqServer, topic: str) -> None:
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


def test_without_heartbeats_it_works_too(server: ActiveMqServer, topic: str) -> None:
    broker = connect(server.url(heartbeat="0s", message_groups="false"))
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 2))
        assert len(take(reader, 2)) == 2


def test_the_next_host_is_taken_when_one_is_away(server: ActiveMqServer, topic: str) -> None:
    broker = connect(server.url().replace("@", f"@127.0.0.1:{free_port()},"))
    with closing(broker.publisher()) as publisher:
        publisher.publish(numbered(topic, "p", 0, 1), timeout=10)


def test_a_client_certificate_is_shown_to_a_server_that_asks(server: ActiveMqServer, topic: str) -> None:
    made = server.certificates
    with closing(connect(server.mutual_tls_url(cert=str(made.client_cert), key=str(made.client_key))).publisher()) as known:
        known.publish(numbered(topic, "p", 0, 1))
    broker = connect(server.mutual_tls_url())
    with closing(broker.publisher()) as stranger, pytest.raises(PublishError) as caught:
        stranger.publish(numbered(topic, "p", 0, 1), timeout=10)
    BrokerContract.assert_clear(caught.value, broker, topic)


def test_without_a_ca_the_authorities_of_the_system_are_trusted_and_no_others(server: ActiveMqServer, topic: str) -> None:
    broker = connect(str(server.tls_url()).partition("?")[0])
    with closing(broker.publisher()) as publisher, pytest.raises(PublishError, match="certificate"):
        publisher.publish(numbered(topic, "p", 0, 1), timeout=10)


def test_large_messages_over_tls_both_ways_at_once(server: ActiveMqServer, topic: str) -> None:
    sent = [random.randbytes(300_000) for _ in range(20)]
    broker = connect(str(server.tls_url()))
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, "key", value) for value in sent])
        assert all_of(reader, len(sent)) == sent


def test_tls_to_a_port_without_it_is_given_up(server: ActiveMqServer, topic: str) -> None:
    broker = connect(server.url().replace("stomp:", "stomp+ssl:"))
    with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish(numbered(topic, "p", 0, 1), timeout=3)
    BrokerContract.assert_clear(caught.value, broker, topic)
