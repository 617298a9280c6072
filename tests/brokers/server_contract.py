"""What brokers promise that have a server: it dies, hangs, is cut off, checks who comes.

A broker joins by setting ``SERVER`` to the name of its folder in `tests.servers`; the fixtures follow from it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import ClassVar

import pytest

from brokers import Broker, BrokerError, BrokerRefused, BrokerUnavailable, Message, Publisher, PublishError, connect
from brokers.positions import MemoryPositions
from brokers.subscription import subscribe
from tests.brokers.kit import PATIENCE, ROOT, Numbered, eventually, following, numbered, parse, take
from tests.brokers.patience import (
    acknowledge_or_again,
    ended_within,
    poll_patiently,
    publish_patiently,
    publishing_again_and_again,
)
from tests.servers.broker_server import BrokerServer, Servers
from tests.servers.ports import free_port


class ServerContract:
    """Beside `LogContract` or `QueueContract`."""

    SERVER: str
    #: Seconds that a deadline may be passed by, on a busy machine, before it counts as none.
    GRACE = 15.0
    #: Options of a URL with which a client notices within seconds that a server is silent.
    ALERT: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def server(self, servers: Servers) -> BrokerServer:
        return servers[self.SERVER]

    @pytest.fixture
    def url(self, server: BrokerServer) -> str:
        return server.url()

    @pytest.fixture
    def proxied(self, server: BrokerServer) -> Broker:
        """The same broker, over a network that can fail."""
        return connect(server.proxied_url())

    @pytest.fixture
    def alert(self, server: BrokerServer) -> Broker:
        """The same, and it notices soon that nobody answers."""
        return connect(server.proxied_url(**self.ALERT))

    @pytest.fixture
    def unavailable_url(self, server: BrokerServer) -> str:
        port = str(server.proxy.port)
        return server.proxied_url().replace(port, str(free_port()))

    @pytest.mark.slow
    def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
        self, server: BrokerServer, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        if not broker.capabilities.durable:
            pytest.skip(f"not durable: {broker.capabilities.notes}")
        positions = MemoryPositions()
        with following(broker, topic, positions=positions) as reader:
            reader.poll(max_messages=1, timeout=0)
        calls, per_call, kill_at = 200, 50, 70
        with publishing_again_and_again(publisher, topic, calls=calls, per_call=per_call) as progress:
            progress.wait_for(kill_at)
            server.process.kill()
            time.sleep(0.5)
            server.process.start()
            progress.wait_for(calls)
        expected = {Numbered("p", call, index) for call in range(calls) for index in range(per_call)}
        found: Counter[Numbered] = Counter()
        with following(broker, topic, positions=positions) as reader:
            order = []
            until = time.monotonic() + PATIENCE
            while not expected <= found.keys():
                assert time.monotonic() < until, f"{len(expected - found.keys())} of {len(expected)} never came"
                deliveries = reader.poll(max_messages=1000, timeout=1)
                order += [parse(delivery.value) for delivery in deliveries]
                found.update(parse(delivery.value) for delivery in deliveries)
                reader.acknowledge(deliveries)
        assert list(dict.fromkeys(order)) == sorted(expected), "the order of the key, repeated messages left out"

    @pytest.mark.slow
    def test_publishing_and_reading_go_on_after_the_server_was_killed(
        self, server: BrokerServer, broker: Broker, publisher: Publisher, topic: str
    ) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 10))
            take(reader, 10)
            server.process.kill()
            with pytest.raises(PublishError) as caught:
                publisher.publish(numbered(topic, "p", 1, 10), timeout=1)
            assert caught.value.refused == ()
            server.process.start()
            if not broker.capabilities.creates_topics:
                broker.create_topic(topic)
            # A server that forgets has forgotten its readers as well: they have to be there before it is published to.
            poll_patiently(reader)
            publish_patiently(publisher, numbered(topic, "p", 2, 10))
            wanted = {Numbered("p", 2, index) for index in range(10)}
            until = time.monotonic() + PATIENCE
            while wanted and time.monotonic() < until:
                deliveries = poll_patiently(reader)
                wanted -= {parse(delivery.value) for delivery in deliveries}
                acknowledge_or_again(reader, deliveries)
            assert not wanted

    @pytest.mark.slow
    def test_a_network_that_is_cut_loses_nothing(self, server: BrokerServer, broker: Broker, proxied: Broker, topic: str) -> None:
        with following(proxied, topic) as reader, closing(proxied.publisher()) as publisher:
            poll_patiently(reader)
            found: Counter[Numbered] = Counter()
            with publishing_again_and_again(publisher, topic, calls=60, per_call=5) as progress:
                progress.wait_for(10)
                server.proxy.cut()
                time.sleep(2)
                server.proxy.restore()
                until = time.monotonic() + PATIENCE
                while len(found) < 300:
                    assert time.monotonic() < until, f"{len(found)} of 300 came"
                    deliveries = poll_patiently(reader)
                    found.update(parse(delivery.value) for delivery in deliveries)
                    acknowledge_or_again(reader, deliveries)

    @pytest.mark.slow
    def test_an_idle_connection_that_was_cut_is_made_again(self, server: BrokerServer, proxied: Broker, topic: str) -> None:
        with following(proxied, topic) as reader, closing(proxied.publisher()) as publisher:
            poll_patiently(reader)
            publish_patiently(publisher, numbered(topic, "p", 0, 1))
            server.proxy.cut()
            server.proxy.restore()
            publish_patiently(publisher, numbered(topic, "p", 1, 1))
            wanted = {Numbered("p", 0, 0), Numbered("p", 1, 0)}
            until = time.monotonic() + PATIENCE
            while wanted:
                assert time.monotonic() < until
                deliveries = poll_patiently(reader)
                wanted -= {parse(delivery.value) for delivery in deliveries}
                acknowledge_or_again(reader, deliveries)

    def test_a_server_that_never_answers_is_given_up_at_the_deadline(self, server: BrokerServer, alert: Broker) -> None:
        server.proxy.hang()
        with (
            closing(alert.publisher()) as publisher,
            ended_within(2 + self.GRACE),
            pytest.raises(PublishError) as caught,
        ):
            publisher.publish([Message("some.topic", "key", b"1")], timeout=2)
        assert caught.value.unacknowledged == (0,)
        assert caught.value.refused == ()
        assert alert.url in caught.value.message
        reader = subscribe(alert, ["some.topic"], group="tests")
        with closing(reader), ended_within(2 + self.GRACE), pytest.raises(BrokerUnavailable) as unavailable:
            reader.poll(max_messages=1, timeout=2)
        assert alert.url in unavailable.value.message
        assert unavailable.value.remedy

    def test_a_server_that_stops_answering_is_given_up_at_the_deadline(
        self, server: BrokerServer, broker: Broker, proxied: Broker, topic: str
    ) -> None:
        with closing(proxied.publisher()) as publisher:
            publisher.publish(numbered(topic, "p", 0, 1))
            server.proxy.hang()
            with ended_within(2 + self.GRACE), pytest.raises(PublishError) as caught:
                publisher.publish(numbered(topic, "p", 1, 3), timeout=2)
            assert caught.value.unacknowledged == (0, 1, 2)
            server.proxy.restore()
            publish_patiently(publisher, numbered(topic, "p", 1, 3))

    @pytest.mark.slow
    def test_a_server_that_falls_silent_does_not_look_like_an_empty_topic(
        self, server: BrokerServer, alert: Broker, publisher: Publisher, topic: str
    ) -> None:
        with following(alert, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            server.proxy.hang()
            with pytest.raises(BrokerUnavailable) as caught:
                reader.poll(max_messages=1, timeout=15)
            assert alert.url in caught.value.message
            assert topic in caught.value.message
            assert caught.value.remedy
            server.proxy.restore()
            publisher.publish(numbered(topic, "p", 0, 1))
            eventually(lambda: bool(poll_patiently(reader)), "it reads on")

    def test_closing_ends_a_publish_that_is_held_up(self, server: BrokerServer, proxied: Broker, topic: str) -> None:
        publisher = proxied.publisher()
        publisher.publish(numbered(topic, "p", 0, 1))
        server.proxy.hang()
        ended = threading.Event()

        def publish() -> None:
            try:
                publisher.publish(numbered(topic, "p", 1, 1), timeout=300)
            except BrokerError:
                ended.set()

        threading.Thread(target=publish, daemon=True).start()
        time.sleep(0.3)
        publisher.close()
        assert ended.wait(5)

    def test_a_wrong_password_is_refused_by_name(self, server: BrokerServer, topic: str) -> None:
        url = server.wrong_password_url()
        if url is None:
            pytest.skip("this server checks no password")
        broker = connect(url)
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish([Message(topic, "key", b"value")], timeout=10)
        assert caught.value.unacknowledged == (0,)
        reader = subscribe(broker, [topic], group="tests")
        with closing(reader), pytest.raises(BrokerRefused) as refused:
            reader.poll(max_messages=1, timeout=10)
        for error in (caught.value, refused.value):
            assert broker.url in error.message
            assert error.remedy
            assert "wrong" not in error.message + error.remedy, "the password is in the error"

    def test_tls_with_an_authority_that_is_trusted(self, server: BrokerServer, broker: Broker, topic: str) -> None:
        url = server.tls_url()
        if url is None:
            pytest.skip("this server has no TLS")
        with following(connect(url), topic) as reader, closing(connect(url).publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", b"sealed")])
            assert [delivery.value for delivery in take(reader, 1)] == [b"sealed"]

    def test_tls_with_an_authority_that_is_not_trusted_is_refused(self, server: BrokerServer, topic: str) -> None:
        url = server.untrusted_tls_url()
        if url is None:
            pytest.skip("this server has no TLS")
        broker = connect(url)
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish([Message(topic, "key", b"value")], timeout=10)
        assert caught.value.unacknowledged == (0,)
        assert "certificate" in (caught.value.message + caught.value.remedy).lower()
        reader = subscribe(broker, [topic], group="tests")
        with closing(reader), pytest.raises((BrokerRefused, BrokerUnavailable)) as refused:
            reader.poll(max_messages=1, timeout=10)
        assert "certificate" in (refused.value.message + refused.value.remedy).lower()

    @pytest.mark.slow
    def test_what_a_killed_reader_had_not_acknowledged_comes_again(
        self, server: BrokerServer, broker: Broker, url: str, topic: str, publisher: Publisher
    ) -> None:
        if broker.capabilities.log:
            pytest.skip("the positions in a log are the reader's own")
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
        publisher.publish(numbered(topic, "p", 0, 20))
        command = [sys.executable, "-m", "tests.brokers.hold", url, topic, "20"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stdout.readline() == "holding 20\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with following(broker, topic) as reader:
            again = take(reader, 20)
        assert {parse(delivery.value) for delivery in again} == {Numbered("p", 0, index) for index in range(20)}
