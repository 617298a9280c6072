"""RabbitMQ keeps the contract; its URLs, whom it lets in, and what others publish."""

from __future__ import annotations

import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import ClassVar, cast

import pytest

from brokers import Broker, BrokerRefused, Message, PublishError, connect
from brokers.rabbitmq.sending import Sending
from brokers.rabbitmq.topology import queue_name
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import ROOT, following, take
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract
from tests.servers.broker_server import Servers
from tests.servers.ports import free_port
from tests.servers.rabbitmq import RabbitServer


@pytest.mark.slow
class TestRabbitMQ(ServerContract, QueueContract):
    SERVER = "rabbitmq"
    ALERT: ClassVar = {"heartbeat": "1"}


@pytest.mark.slow
class TestQuorumQueues(QueueContract):
    """The part of the contract that needs no proxy, over replicated queues."""

    @pytest.fixture
    def url(self, servers: Servers) -> str:
        return servers["rabbitmq"].url(queue_type="quorum")

    @pytest.fixture
    def unavailable_url(self) -> str:
        return f"amqp://127.0.0.1:{free_port()}"


@pytest.fixture
def server(servers: Servers) -> RabbitServer:
    return cast("RabbitServer", servers["rabbitmq"])


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


def refused_on_both_sides(broker: Broker, topic: str) -> list[str]:
    """What publisher and reader say; both name the broker and the topic, and what to do."""
    with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic, "key", b"value")], timeout=10)
    assert caught.value.unacknowledged == (0,)
    assert caught.value.refused == ()
    with closing(broker.queue_reader([topic], group="tests")) as reader, pytest.raises(BrokerRefused) as refused:
        reader.poll(max_messages=1, timeout=10)
    for error in (caught.value, refused.value):
        assert broker.url in error.message
        assert topic in error.message
        assert error.remedy
    return [str(caught.value), str(refused.value)]


# What needs no server.


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("amqp:somewhere", "names no host"),
        ("amqp://host?prefech=5", "did you mean 'prefetch'"),
        ("amqp://host?prefetch=0", "prefetch must be 1 to 65535"),
        ("amqp://host?heartbeat=70000", "heartbeat must be 1 to 65535"),
        ("amqp://host?queue_type=stream", "queue_type"),
        ("amqp://host?ca=ca.pem", "ca is for TLS"),
        ("amqps://host?key=client.key", "no certificate is named"),
        ("amqps://host?auth=external", "no certificate is named"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_opened(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        connect(url)


def test_a_missing_client_library_is_named_with_its_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pika", None)
    with pytest.raises(ConfigurationError) as caught:
        connect("amqp://host")
    assert "pika" in caught.value.message
    assert caught.value.remedy == "pip install 'iotcloud[rabbitmq]'"


def test_the_sample_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_PASSWORD", "in-the-sample")
    loaded = load_config(ROOT / "brokers" / "rabbitmq" / "sample.toml")
    (broker,) = loaded.brokers().values()
    assert broker.url.startswith("amqps://gateway:***@mq1.example.com,mq2.example.com/iot?")


def test_no_two_groups_and_topics_have_one_queue() -> None:
    places = [("a", "b.c"), ("a.b", "c"), ("a:b", "c"), ("a", "b"), ("ä" * 200, "c"), ("ä" * 201, "c"), ("ä" * 200, "t" * 200)]
    names = {queue_name(group, topic) for group, topic in places}
    assert len(names) == len(places)
    assert all(len(name.encode()) <= 255 for name in names)


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broker = connect(f"amqps://127.0.0.1:{free_port()}?ca={tmp_path}/missing.pem")
    assert all(f"{tmp_path}/missing.pem" in text for text in refused_on_both_sides(broker, "some.topic"))


def test_what_follows_a_missing_message_of_its_key_is_published_again() -> None:
    messages = [Message("t", key, b"") for key in "abaab"]
    sending = Sending(messages, [0, 1, 2, 3, 4])
    while sending.next() is not None:
        sending.sent()
    for index, stored in enumerate([True, True, False, True, True]):
        sending.answer(index, stored=stored)
    assert sending.missing() == [2, 3]
    assert sending.done
    assert sending.rejected == {"t"}


def test_after_one_was_rejected_no_more_of_its_topic_is_sent() -> None:
    messages = [Message(topic, "key", b"") for topic in "tutu"]
    sending = Sending(messages, [0, 1, 2, 3])
    assert sending.next() == 0
    sending.sent()
    sending.answer(0, stored=False)
    for index in (1, 3):
        assert sending.next() == index
        sending.sent()
        sending.answer(index, stored=True)
    assert sending.next() is None
    assert sending.done
    assert sending.missing() == [0, 2]


@pytest.mark.parametrize(("stored", "sent"), [(True, [1, 3, 0, 2, 4]), (False, [1, 3, 0])])
def test_a_doubtful_topic_begins_with_one_message_behind_the_others(stored: bool, sent: list[int]) -> None:
    messages = [Message(topic, "key", b"") for topic in "tutut"]
    sending = Sending(messages, [1, 3], {"t": [0, 2, 4]})
    found: list[int] = []
    while not sending.done:
        on_way: list[int] = []
        while (index := sending.next()) is not None:
            sending.sent()
            on_way.append(index)
        for index in on_way:
            sending.answer(index, stored=stored or messages[index].topic != "t")
        found += on_way
    assert found == sent
    assert sending.missing() == ([] if stored else [0, 2, 4])


# Who is let in.


@pytest.mark.slow
def test_a_vhost_that_is_missing_or_closed_is_named(server: RabbitServer, topic: str) -> None:
    for vhost in ("missing", "closed"):
        broker = connect(server.url_of("gateway", vhost=vhost))
        for text in refused_on_both_sides(broker, topic):
            assert f"vhost {vhost}" in text.replace("'", "")
            assert "rabbitmqctl" in text


@pytest.mark.slow
def test_a_user_without_rights_is_told_which(server: RabbitServer, topic: str) -> None:
    assert all("set_permissions" in text for text in refused_on_both_sides(connect(server.url_of("stranger")), topic))


@pytest.mark.slow
def test_the_rights_that_the_readme_grants_are_enough(server: RabbitServer, topic: str) -> None:
    broker = connect(server.url_of("agent"))
    broker.create_topic(topic)
    broker.keep([topic], group="other")
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, "key", b"value")])
        assert [delivery.value for delivery in take(reader, 1)] == [b"value"]
    broker.forget([topic], group="other")


@pytest.mark.slow
def test_those_who_may_only_write_or_read_use_what_others_have_made(server: RabbitServer, topic: str) -> None:
    connect(server.url()).keep([topic], group="tests")
    with following(connect(server.url_of("reader")), topic) as reader:
        writer = connect(server.url_of("writer"))
        writer.keep([topic], group="tests")
        with pytest.raises(BrokerRefused, match="ACCESS_REFUSED"):
            writer.keep([topic], group="others")
        with closing(writer.publisher()) as publisher:
            publisher.publish([Message(topic, "key", b"value")])
        assert [delivery.value for delivery in take(reader, 1)] == [b"value"]


@pytest.mark.slow
def test_a_client_certificate_is_asked_for_and_may_be_the_login(server: RabbitServer, topic: str) -> None:
    without = connect(server.tls_url(cert="", key=""))
    with closing(without.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic, "key", b"value")], timeout=10)
    assert "cert=FILE" in caught.value.remedy
    assert without.url in caught.value.message
    broker = connect(server.tls_url(auth="external"))
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        reader.poll(max_messages=1, timeout=0)
        publisher.publish([Message(topic, "key", b"value")])
        assert [delivery.value for delivery in take(reader, 1)] == [b"value"]


@pytest.mark.slow
def test_the_next_host_is_tried(server: RabbitServer, topic: str) -> None:
    url = server.url().replace("127.0.0.1:", f"127.0.0.1:{free_port()},127.0.0.1:")
    # The first to be tried is any of them.
    for _ in range(8):
        with closing(connect(url).publisher()) as publisher:
            publisher.publish([Message(topic, "key", b"value")])


# What others send.


@pytest.mark.slow
def test_what_others_publish_is_read_with_or_without_a_key(server: RabbitServer, topic: str) -> None:
    import pika

    with following(connect(server.url()), topic) as reader:
        reader.poll(max_messages=1, timeout=0)
        with closing(pika.BlockingConnection(pika.URLParameters(server.url_of("gateway")))) as connection:
            channel = connection.channel()
            for headers in (None, {}, {"key": "k"}, {"key": 5}, {"key": b"\xff"}):
                channel.basic_publish("iotcloud", topic, b"theirs", pika.BasicProperties(headers=headers))
        received = take(reader, 5)
    assert [delivery.key for delivery in received] == ["", "", "k", "5", "\ufffd"]
