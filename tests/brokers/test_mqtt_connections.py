"""Connections to an MQTT server: with TLS, idle, silent, and to a server that takes little."""

from __future__ import annotations

import threading
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from brokers import BrokerRefused, BrokerUnavailable, Message, PublishError, connect
from tests.brokers.contract import BrokerContract
from tests.brokers.kit import PATIENCE, Numbered, following, numbered, parse, take
from tests.servers.broker_server import Servers
from tests.servers.mqtt import MosquittoServer
from tests.servers.packages import apt


@pytest.fixture
def server(servers: Servers) -> MosquittoServer:
    return cast("MosquittoServer", servers["mqtt"])


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


def test_tls_without_the_client_certificate_that_the_server_wants(server: MosquittoServer, topic: str) -> None:
    made = server.certificates
    broker = connect(f"mqtts://127.0.0.1:{server.tls_port}?ca={made.ca}")
    with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic, "key", b"value")], timeout=1)
    BrokerContract.assert_clear(caught.value, broker, topic)
    assert "cert=" in caught.value.remedy


def test_certificate_files_that_are_not_there(server: MosquittoServer, topic: str) -> None:
    broker = connect(server.tls_url(cert="no-such-file.pem"))
    with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerRefused) as caught:
        reader.poll(max_messages=1, timeout=10)
    BrokerContract.assert_clear(caught.value, broker, topic)
    assert "no-such-file.pem" in caught.value.message


def test_a_name_that_is_not_in_the_certificate_is_refused(server: MosquittoServer, topic: str) -> None:
    # Another way to write the same address.
    broker = connect(server.tls_url().replace("127.0.0.1", "127.1"))
    with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerRefused) as caught:
        reader.poll(max_messages=1, timeout=10)
    assert "certificate is not trusted" in caught.value.message


def test_a_port_that_speaks_no_tls(server: MosquittoServer, topic: str) -> None:
    broker = connect(server.tls_url().replace(str(server.tls_port), str(server.port)))
    with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerUnavailable) as caught:
        reader.poll(max_messages=1, timeout=1)
    BrokerContract.assert_clear(caught.value, broker, topic)


def test_closing_ends_a_reader_that_cannot_connect(server: MosquittoServer, topic: str) -> None:
    server.proxy.hang()
    reader = connect(server.proxied_url()).queue_reader([topic], group="tests")
    ended = threading.Event()

    def poll() -> None:
        if not reader.poll(max_messages=1, timeout=300):
            ended.set()

    threading.Thread(target=poll, daemon=True).start()
    assert not ended.wait(0.3)
    reader.close()
    assert ended.wait(5)


@pytest.mark.slow
def test_a_connection_lives_while_its_caller_is_idle_or_busy(server: MosquittoServer, topic: str) -> None:
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


def test_a_backlog_waits_at_the_server_and_the_connection_outlives_it(server: MosquittoServer, topic: str) -> None:
    """Guarantee: a reader's memory is bounded, though mosquitto 2.0 sends as many as the window for each PUBACK."""
    broker = connect(server.url(keepalive="1s", window="100"))
    broker.keep([topic], group="tests")
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message(topic, "key", number.to_bytes(4, "big") + bytes(100_000)) for number in range(500)])
    with following(broker, topic) as reader:
        tracemalloc.start()
        try:
            found = take(reader, 10)
            time.sleep(3)  # of the keep-alive, three times
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        found += take(reader, 500 - len(found))
        assert list(reader.poll(max_messages=1, timeout=0.5)) == []
    assert held < 30_000_000
    assert [int.from_bytes(delivery.value[:4], "big") for delivery in found] == list(range(500))
    assert not any(delivery.redelivered for delivery in found)


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    """A server that takes little at once."""
    apt("mosquitto", program="mosquitto")
    server = MosquittoServer(tmp_path_factory.mktemp("small"), inflight=5, settings="max_packet_size 10000")
    server.process.start()
    yield server
    server.process.stop()
    server.proxy.close()


def test_it_gets_no_more_than_it_wants(small_server: MosquittoServer) -> None:
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
def test_a_packet_as_large_as_it_takes_goes_and_a_larger_one_is_refused_by_name(small_server: MosquittoServer, key: str) -> None:
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
