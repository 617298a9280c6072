"""What logs promise beside the rest of the contract."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from brokers import Broker, BrokerRefused, LogReader, Message, OffsetExpired, Publisher
from schemas.errors import ConfigurationError
from tests.brokers.contract import KEYS, BrokerContract
from tests.brokers.kit import Numbered, eventually, following, numbered, parse, publishing, read_all, take


class LogContract(BrokerContract):
    """Logs: read by partition and offset, and again."""

    @pytest.fixture
    def reader(self, broker: Broker) -> Iterator[LogReader]:
        with closing(broker.log_reader()) as reader:
            yield reader

    @pytest.fixture
    def expire(self, broker: Broker) -> Callable[[str], None]:
        """Makes the broker let go of the oldest records of partition 0 of a topic."""
        pytest.skip(f"retention cannot be hurried: {broker.capabilities.notes}")

    def test_it_says_that_it_is_a_log(self, broker: Broker, topic: str) -> None:
        assert broker.capabilities.log
        with pytest.raises(ConfigurationError):
            broker.queue_reader([topic], group="tests")

    def test_a_topic_that_does_not_exist_has_no_partitions(self, reader: LogReader) -> None:
        assert list(reader.partitions(f"missing-{uuid.uuid4().hex[:12]}")) == []

    def test_records_are_read_again_from_any_offset(self, topic: str, reader: LogReader, publisher: Publisher) -> None:
        publisher.publish(numbered(topic, "p", 0, 50))
        publisher.publish(numbered(topic, "p", 1, 50))
        ((partition, records),) = read_all(reader, topic).items()
        assert len(records) == 100
        assert reader.begin_offset(topic, partition) == records[0].offset
        assert reader.end_offset(topic, partition) == records[-1].offset + 1
        for start in (0, 1, 49, 50, 99):
            got = reader.read(topic, partition, records[start].offset, max_records=100, max_bytes=1 << 20, timeout=10)
            assert list(got) == records[start : start + len(got)]
            assert got

    def test_a_read_is_bounded_by_records_and_bytes_but_never_empty(
        self, topic: str, reader: LogReader, publisher: Publisher
    ) -> None:
        publisher.publish([Message(topic, "key", bytes(1000)) for _ in range(20)])
        begin = reader.begin_offset(topic, 0)
        assert len(reader.read(topic, 0, begin, max_records=3, max_bytes=1 << 20, timeout=10)) == 3
        assert 1 <= len(reader.read(topic, 0, begin, max_records=100, max_bytes=4_500, timeout=10)) <= 4
        assert len(reader.read(topic, 0, begin, max_records=100, max_bytes=1, timeout=10)) == 1

    def test_offsets_by_append_time(self, topic: str, reader: LogReader, publisher: Publisher) -> None:
        for call in range(5):
            publisher.publish(numbered(topic, "p", call, 3))
            time.sleep(0.003)
        records = read_all(reader, topic)[0]
        times = [record.append_time for record in records]
        assert times == sorted(times)
        assert times[0] < times[-1]
        for wanted in (0, times[0], times[7], times[7] + 1, times[-1], times[-1] + 1_000_000):
            expected = next((r.offset for r in records if r.append_time >= wanted), records[-1].offset + 1)
            assert reader.offset_for_time(topic, 0, wanted) == expected

    def test_a_waiting_read_returns_what_another_process_publishes(self, url: str, topic: str, reader: LogReader) -> None:
        with publishing(url, topic, "p", calls=1, per_call=1):
            eventually(lambda: len(reader.partitions(topic)) > 0, "the topic exists")
            records = reader.read(topic, 0, 0, max_records=10, max_bytes=1 << 20, timeout=60)
        assert [parse(record.value) for record in records] == [Numbered("p", 0, 0)]

    def test_reading_at_the_end_returns_nothing_after_its_timeout(
        self, topic: str, reader: LogReader, publisher: Publisher
    ) -> None:
        publisher.publish([Message(topic, "key", b"value")])
        end = reader.end_offset(topic, 0)
        for timeout in (0.0, 0.05):
            assert list(reader.read(topic, 0, end, max_records=1, max_bytes=1, timeout=timeout)) == []

    def test_an_offset_beyond_the_end_is_refused_by_name(
        self, broker: Broker, topic: str, reader: LogReader, publisher: Publisher
    ) -> None:
        publisher.publish([Message(topic, "key", b"value")])
        with pytest.raises(BrokerRefused) as caught:
            reader.read(topic, 0, reader.end_offset(topic, 0) + 5, max_records=1, max_bytes=1, timeout=1)
        self.assert_clear(caught.value, broker, topic)

    def test_a_key_has_one_partition_and_all_have_some(
        self, broker: Broker, topic: str, reader: LogReader, publisher: Publisher
    ) -> None:
        broker.create_topic(topic, partitions=4)
        broker.create_topic(topic, partitions=2)
        assert len(reader.partitions(topic)) == 4
        publisher.publish([Message(topic, f"key-{number % 50}", b"value") for number in range(200)])
        keys = {partition: {record.key for record in records} for partition, records in read_all(reader, topic).items()}
        assert all(keys.values())
        assert sum(len(found) for found in keys.values()) == 50

    def test_a_partition_added_while_following_is_followed(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        broker.create_topic(topic, partitions=1)
        with following(broker, topic) as reader:
            publisher.publish([Message(topic, key, b"before") for key in KEYS])
            take(reader, len(KEYS))
            broker.create_topic(topic, partitions=5)
            with closing(broker.publisher()) as fresh:
                fresh.publish([Message(topic, key, b"after") for key in KEYS])
            assert {delivery.key for delivery in take(reader, len(KEYS))} == set(KEYS)

    def test_an_offset_no_longer_kept_is_an_error_that_says_where_to_go_on(
        self, expire: Callable[[str], None], topic: str, reader: LogReader, publisher: Publisher
    ) -> None:
        publisher.publish(numbered(topic, "p", 0, 20))
        first = reader.begin_offset(topic, 0)
        expire(topic)
        with pytest.raises(OffsetExpired) as caught:
            reader.read(topic, 0, first, max_records=1, max_bytes=1, timeout=1)
        assert caught.value.begin == reader.begin_offset(topic, 0) > first
        assert reader.read(topic, 0, caught.value.begin, max_records=1, max_bytes=1, timeout=10)
