"""Kafka keeps the contract, against a real broker; and what is particular to it."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError
from structlog.testing import capture_logs

from brokers import Broker, BrokerRefused, LogReader, Message, Publisher, PublishError, connect
from brokers.kafka.fetching import Fetching
from tests.brokers.kit import eventually, following, numbered, read_all, take
from tests.brokers.log_contract import LogContract
from tests.brokers.server_contract import ServerContract
from tests.servers.broker_server import Servers
from tests.servers.kafka import IDLE_SECONDS, PASSWORD, KafkaServer

# A broker takes seconds to start.
pytestmark = pytest.mark.slow


@pytest.fixture
def server(servers: Servers) -> KafkaServer:
    return cast("KafkaServer", servers["kafka"])


@pytest.fixture
def address(server: KafkaServer) -> str:
    """For clients of kafka-python."""
    return server.url().removeprefix("kafka://")


@pytest.fixture
def admin(address: str) -> Iterator[Any]:
    with closing(KafkaAdminClient(bootstrap_servers=address)) as client:
        yield client


class TestKafka(ServerContract, LogContract):
    SERVER = "kafka"

    @pytest.fixture
    def expire(self, admin: Any) -> Callable[[str], None]:
        def expire(topic: str) -> None:
            admin.delete_records({TopicPartition(topic, 0): 5})

        return expire


@pytest.fixture
def broker(server: KafkaServer) -> Broker:
    return connect(server.url())


@pytest.fixture
def topic() -> str:
    return f"site.app-{uuid.uuid4().hex[:12]}.channel"


@pytest.fixture
def publisher(broker: Broker) -> Iterator[Publisher]:
    with closing(broker.publisher()) as publisher:
        yield publisher


@pytest.fixture
def reader(broker: Broker) -> Iterator[LogReader]:
    with closing(broker.log_reader()) as reader:
        yield reader


def setting(admin: Any, topic: str, name: str) -> str:
    """A topic's setting, as the broker has it."""
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return str(found["topic"][topic][name]["value"])


# Topics.


def test_topics_we_make_have_the_brokers_clock_and_as_many_partitions_as_the_url_says(
    server: KafkaServer, admin: Any, topic: str, reader: LogReader
) -> None:
    with closing(connect(server.url(partitions="3", max_message_bytes="5MB")).publisher()) as publisher:
        publisher.publish([Message(topic, "key", bytes(4_900_000))])
    assert list(reader.partitions(topic)) == [0, 1, 2]
    assert setting(admin, topic, "message.timestamp.type") == "LogAppendTime"
    assert sum(len(record.value) for records in read_all(reader, topic).values() for record in records) == 4_900_000


def test_more_copies_than_brokers_are_refused_with_what_to_do(server: KafkaServer, topic: str) -> None:
    broker = connect(server.url(replication="3"))
    with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic, "key", b"value")], timeout=30)
    assert caught.value.refused == ()
    with pytest.raises(BrokerRefused) as refused:
        broker.create_topic(topic)
    for error in (caught.value, refused.value):
        assert topic in error.message
        assert "replication=" in error.remedy


def test_a_name_that_kafka_takes_for_another_is_refused(broker: Broker, topic: str, publisher: Publisher) -> None:
    publisher.publish([Message(topic, "key", b"value")])
    with pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic.replace(".", "_"), "key", b"value")])
    assert caught.value.refused == (0,)
    assert "collides" in caught.value.message


def test_a_topic_with_its_publishers_clocks_is_read_by_them(broker: Broker, address: str, admin: Any, topic: str) -> None:
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    with closing(KafkaProducer(bootstrap_servers=address, acks="all")) as theirs:
        for number in range(3):
            theirs.send(topic, key=b"k", value=b"%d" % number, headers=[("h", b"x")], timestamp_ms=1_000_000 + number)
        theirs.flush(30)
    with capture_logs() as logs, closing(broker.log_reader()) as reader:
        records = read_all(reader, topic)[0]
    assert [(record.append_time, record.key, record.value) for record in records] == [
        (1_000_000_000 + 1_000 * number, "k", b"%d" % number) for number in range(3)
    ]
    assert [line["event"] for line in logs] == ["append times are the publishers' clocks"]


def test_a_message_too_large_for_the_topic_is_refused_and_the_others_are_stored(
    admin: Any, topic: str, publisher: Publisher, reader: LogReader
) -> None:
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "2000"}}})
    messages = [Message(topic, "key", bytes([number]) * (5_000 if number == 3 else 500)) for number in range(8)]
    with pytest.raises(PublishError) as caught:
        publisher.publish(messages)
    assert caught.value.refused == caught.value.unacknowledged == (3,)
    assert topic in caught.value.message
    assert "max.message.bytes" in caught.value.remedy
    publisher.publish([Message(topic, "key", b"after")])
    stored = [record.value for record in read_all(reader, topic)[0]]
    assert stored == [message.value for message in messages if len(message.value) == 500] + [b"after"]


# Reading and publishing.


def test_other_clients_read_what_we_publish_compressed(server: KafkaServer, address: str, topic: str, reader: LogReader) -> None:
    messages = [Message(topic, f"key-{number}", b"the same again and again " * 40) for number in range(300)]
    with closing(connect(server.url(compression="gzip")).publisher()) as publisher:
        publisher.publish(messages)
    assert [record.value for record in read_all(reader, topic)[0]] == [message.value for message in messages]
    with closing(KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=20_000)) as theirs:
        theirs.assign([TopicPartition(topic, 0)])
        read = [next(theirs) for _ in messages]
    assert [(record.key.decode(), record.value) for record in read] == [(message.key, message.value) for message in messages]


def test_a_call_of_many_megabytes_to_many_partitions(broker: Broker, topic: str, publisher: Publisher, reader: LogReader) -> None:
    broker.create_topic(topic, partitions=5)
    messages = [Message(topic, f"key-{number % 20}", number.to_bytes(4, "big") + bytes(60_000)) for number in range(500)]
    publisher.publish(messages)
    for partition, records in read_all(reader, topic).items():
        assert [record.offset for record in records] == list(range(len(records))), partition
        for key in {record.key for record in records}:
            expected = [message.value for message in messages if message.key == key]
            assert [record.value for record in records if record.key == key] == expected


def test_many_partitions_read_in_turn_are_fetched_together(
    broker: Broker, topic: str, publisher: Publisher, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic(topic, partitions=16)
    publisher.publish([Message(topic, f"key-{number}", bytes(100)) for number in range(4_000)])
    fetches = []
    start = Fetching._start

    def counted(self: Fetching, *arguments: Any) -> bool:
        fetches.append(arguments)
        return start(self, *arguments)

    monkeypatch.setattr(Fetching, "_start", counted)
    positions = dict.fromkeys(reader.partitions(topic), 0)
    for partition in positions:
        reader.read(topic, partition, 0, max_records=1, max_bytes=1)
        positions[partition] = 1
    begun = len(fetches)
    found = len(positions)
    while found < 4_000:
        for partition, offset in positions.items():
            records = reader.read(topic, partition, offset, max_records=10, max_bytes=1 << 20)
            found += len(records)
            positions[partition] += len(records)
    assert found == 4_000
    assert len(fetches) - begun <= 32, "what was fetched of one partition was thrown away while another was read"


def test_positions_of_groups_are_shown_to_tools(broker: Broker, topic: str, publisher: Publisher, admin: Any) -> None:
    broker.create_topic(topic, partitions=2)
    publisher.publish([Message(topic, f"key-{number}", b"value") for number in range(50)])
    group = f"group-{topic}"
    reader = broker.log_reader()
    ends = {partition: reader.end_offset(topic, partition) for partition in (0, 1)}

    def shown() -> bool:
        # Given up when the cluster takes its time, as it may for the first group it ever has: the next one says it again.
        for partition, end in ends.items():
            reader.commit(group, topic, partition, end - 1)
            reader.commit(group, topic, partition, end)
        try:
            offsets = admin.list_group_offsets(group)[group]
        except KafkaError:
            return False
        return {place.partition: found.offset for place, found in offsets.items() if found.offset >= 0} == ends

    eventually(shown, "the positions are shown")
    reader.close()


# Connections.


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-512"])
def test_a_password_with_and_without_tls(
    server: KafkaServer, topic: str, mechanism: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for number, url in enumerate(
        (server.sasl_url(mechanism=mechanism, plain_without_tls="true"), server.sasl_tls_url(mechanism=mechanism))
    ):
        broker = connect(url)
        assert PASSWORD not in broker.url + repr(broker)
        with closing(broker.publisher()) as publisher, closing(broker.log_reader()) as reader:
            publisher.publish([Message(topic, "key", b"value")])
            assert reader.end_offset(topic, 0) == number + 1
    assert PASSWORD not in caplog.text + "".join(capsys.readouterr())


def test_a_mechanism_the_server_does_not_have_is_named(server: KafkaServer, topic: str) -> None:
    broker = connect(server.sasl_url(mechanism="scram-sha-256"))
    with closing(broker.log_reader()) as reader, pytest.raises(BrokerRefused) as caught:
        reader.partitions(topic)
    assert "mechanism=plain" in caught.value.remedy


def test_a_client_without_the_certificate_that_is_asked_for_is_refused(server: KafkaServer, topic: str) -> None:
    broker = connect(server.uncertified_url())
    with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message(topic, "key", b"value")], timeout=30)
    assert caught.value.refused == ()
    assert "cert=" in caught.value.remedy


def test_one_of_the_servers_named_is_enough(server: KafkaServer, address: str, topic: str) -> None:
    broker = connect(f"kafka://127.0.0.1:1,{address},127.0.0.1:2")
    with following(broker, topic) as reader, closing(broker.publisher()) as publisher:
        publisher.publish(numbered(topic, "p", 0, 5))
        assert len(take(reader, 5)) == 5


def test_connections_that_the_server_closed_for_idleness_are_made_again(broker: Broker, topic: str, publisher: Publisher) -> None:
    with following(broker, topic) as reader:
        publisher.publish(numbered(topic, "p", 0, 3))
        assert len(take(reader, 3)) == 3
        time.sleep(IDLE_SECONDS + 3)
        publisher.publish(numbered(topic, "p", 1, 3))
        assert len(take(reader, 3)) == 3
