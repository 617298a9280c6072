"""What Kafka has when an answer was lost: the same batch again is stored once, and an old one never comes late."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from brokers import LogReader, PublishError, connect
from tests.brokers.kit import Numbered, numbered, parse, read_all
from tests.brokers.patience import publish_patiently
from tests.servers.broker_server import BrokerServer, Servers

pytestmark = pytest.mark.slow


@pytest.fixture
def server(servers: Servers) -> BrokerServer:
    return servers["kafka"]


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


@pytest.fixture
def reader(server: BrokerServer) -> Iterator[LogReader]:
    with closing(connect(server.url()).log_reader()) as reader:
        yield reader


def test_what_was_on_its_way_when_it_was_given_up_never_comes_after_what_was_published_later(
    server: BrokerServer, topic: str, reader: LogReader
) -> None:
    broker = connect(server.proxied_url())
    with closing(broker.publisher()) as publisher:
        for call in range(5):
            publisher.publish(numbered(topic, "p", 3 * call, 2))
            server.proxy.hang()
            with pytest.raises(PublishError) as caught:
                publisher.publish(numbered(topic, "p", 3 * call + 1, 2), timeout=0.5)
            assert caught.value.unacknowledged == (0, 1)
            server.proxy.restore()
            publish_patiently(publisher, numbered(topic, "p", 3 * call + 1, 2))
            publish_patiently(publisher, numbered(topic, "p", 3 * call + 2, 2))
    found = [parse(record.value) for record in read_all(reader, topic)[0]]
    assert list(dict.fromkeys(found)) == [Numbered("p", call, index) for call in range(15) for index in range(2)]
    calls = [number.call for number in found]
    assert calls == sorted(calls), "an old batch came after a newer one"


def test_a_batch_that_was_sent_many_times_because_nobody_answered_is_stored_once(
    server: BrokerServer, topic: str, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokers.kafka.publisher._ANSWER_SECONDS", 0.3)
    with closing(connect(server.proxied_url()).publisher()) as publisher, ThreadPoolExecutor() as others:
        publisher.publish(numbered(topic, "p", 0, 3))
        for call in range(1, 4):
            server.proxy.hang()
            publishing = others.submit(publisher.publish, numbered(topic, "p", call, 3), timeout=60)
            with pytest.raises(TimeoutError):
                publishing.result(timeout=1)
            server.proxy.restore()
            publishing.result(timeout=60)
    found = [parse(record.value) for record in read_all(reader, topic)[0]]
    assert found == [Numbered("p", call, index) for call in range(4) for index in range(3)]
