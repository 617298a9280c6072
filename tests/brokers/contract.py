"""What every broker promises, as tests. A broker joins with a subclass that has fixtures and nothing else.

`LogContract` is for logs, `QueueContract` for queues. A subclass gives the fixtures `url` and `unavailable_url`,
a log also `expire`; the URL allows messages of 500 kB. What a broker cannot do it says in its `Capabilities`,
and the test that is then left out carries their notes as the reason.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from brokers import Broker, BrokerError, BrokerUnavailable, LogReader, Message, OffsetExpired, Publisher, PublishError, connect
from brokers.positions import MemoryPositions
from brokers.subscription import subscribe
from schemas.errors import ConfigurationError
from tests.brokers.kit import Numbered, eventually, following, numbered, parse, publishing, read_all, take

KEYS = [f"key-{number}" for number in range(7)]


class BrokerContract:
    """Both families."""

    #: A publish that returned has stored each message once; where a client repeats by itself, at least once.
    stores_once = True

    @pytest.fixture
    def url(self) -> str:
        """A broker that is there and has no topics of this test."""
        raise NotImplementedError

    @pytest.fixture
    def unavailable_url(self) -> str:
        """A broker of the same kind that is not there."""
        raise NotImplementedError

    @pytest.fixture
    def broker(self, url: str) -> Broker:
        return connect(url)

    @pytest.fixture
    def topic(self, broker: Broker) -> str:
        name = f"site.app-{uuid.uuid4().hex[:12]}.channel"
        if not broker.capabilities.creates_topics:
            broker.create_topic(name)
        return name

    @pytest.fixture
    def publisher(self, broker: Broker) -> Iterator[Publisher]:
        with closing(broker.publisher()) as publisher:
            yield publisher

    def test_messages_of_a_key_stay_in_order(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            sent = [Message(topic, random.choice(KEYS), str(number).encode()) for number in range(500)]
            for begin in range(0, len(sent), 90):
                publisher.publish(sent[begin : begin + 90])
            received: dict[str, list[bytes]] = defaultdict(list)
            for delivery in take(reader, len(sent)):
                assert delivery.topic == topic
                received[delivery.key].append(delivery.value)
        expected: dict[str, list[bytes]] = defaultdict(list)
        for message in sent:
            expected[message.key].append(message.value)
        assert received == expected

    def test_values_come_as_they_were_published(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        values = [bytes(range(256)), b"\0", b"\xc3\x01" + bytes(8), random.randbytes(500_000), "µ°C".encode()]
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "Schlüssel-ß", value) for value in values])
            received = take(reader, len(values))
        assert [delivery.value for delivery in received] == values
        assert {delivery.key for delivery in received} == {"Schlüssel-ß"}

    def test_publishing_nothing_is_no_error(self, publisher: Publisher) -> None:
        publisher.publish([])

    def test_what_is_not_acknowledged_comes_again(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        positions = MemoryPositions()
        with following(broker, topic, positions=positions) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", str(number).encode()) for number in range(10)])
            received = take(reader, 10, acknowledge=False)
            reader.acknowledge(received[:4])
        with following(broker, topic, positions=positions) as reader:
            again = take(reader, 6)
        assert [delivery.value for delivery in again] == [str(number).encode() for number in range(4, 10)]
        with following(broker, topic, positions=positions) as reader:
            assert list(reader.poll(max_messages=10, timeout=0.3)) == []

    def test_rejected_deliveries_come_again(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", b"first"), Message(topic, "key", b"second")])
            reader.reject(take(reader, 2, acknowledge=False))
            again = take(reader, 2)
        assert Counter(delivery.value for delivery in again) == Counter([b"first", b"second"])
        assert all(delivery.redelivered for delivery in again)

    def test_groups_get_all_messages_each(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic, group="one") as one, following(broker, topic, group="other") as other:
            for reader in (one, other):
                reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", b"to all")])
            assert [delivery.value for reader in (one, other) for delivery in take(reader, 1)] == [b"to all"] * 2

    def test_too_large_a_message_is_refused_by_name_and_the_others_are_stored(
        self, broker: Broker, topic: str, publisher: Publisher
    ) -> None:
        limit = broker.capabilities.max_message_bytes
        if limit is None or limit > 64 << 20:
            pytest.skip(f"no limit that a test can pass: {broker.capabilities.notes}")
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            with pytest.raises(PublishError) as caught:
                publisher.publish([Message(topic, "a", b"1"), Message(topic, "a", bytes(limit + 1)), Message(topic, "a", b"2")])
            assert caught.value.refused == (1,)
            assert 1 in caught.value.unacknowledged
            self.assert_clear(caught.value, broker, topic)
            publisher.publish([Message(topic, "a", b"3")])
            stored = [delivery.value for delivery in take(reader, 4 - len(caught.value.unacknowledged))]
        assert stored[-1] == b"3"
        assert bytes(limit + 1) not in stored

    def test_a_name_that_is_no_topic_is_refused(self, publisher: Publisher) -> None:
        with pytest.raises(PublishError) as caught:
            publisher.publish([Message("../etc/passwd", "key", b"value")])
        assert caught.value.refused == caught.value.unacknowledged == (0,)
        assert "../etc/passwd" in str(caught.value)

    def test_a_missing_topic_is_made_or_refused_by_name(self, broker: Broker, publisher: Publisher) -> None:
        message = Message(f"missing-{uuid.uuid4().hex[:12]}", "key", b"value")
        if broker.capabilities.creates_topics:
            publisher.publish([message])
            return
        with pytest.raises(PublishError) as caught:
            publisher.publish([message], timeout=10)
        assert caught.value.refused == (0,)
        self.assert_clear(caught.value, broker, message.topic)

    def test_publishing_to_a_broker_that_is_not_there_names_it_and_what_to_do(self, unavailable_url: str) -> None:
        broker = connect(unavailable_url)
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish([Message("some.topic", "key", b"1"), Message("some.topic", "key", b"2")], timeout=2)
        assert caught.value.unacknowledged == (0, 1)
        assert caught.value.refused == ()
        self.assert_clear(caught.value, broker, "some.topic")

    def test_reading_from_a_broker_that_is_not_there_names_it_and_what_to_do(self, unavailable_url: str) -> None:
        broker = connect(unavailable_url)
        reader = subscribe(broker, ["some.topic"], group="tests")
        with closing(reader), pytest.raises(BrokerUnavailable) as caught:
            reader.poll(max_messages=1, timeout=2)
        self.assert_clear(caught.value, broker, "some.topic")

    def test_closing_ends_a_blocked_poll(self, broker: Broker, topic: str) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            ended = threading.Event()

            def wait() -> None:
                try:
                    assert list(reader.poll(max_messages=1, timeout=300)) == []
                except BrokerError:
                    pass
                finally:
                    ended.set()

            threading.Thread(target=wait, daemon=True).start()
            assert not ended.wait(0.2)
            reader.close()
            assert ended.wait(5)

    def test_closing_twice_and_unused_is_no_error(self, broker: Broker, topic: str) -> None:
        for part in (broker.publisher(), subscribe(broker, [topic], group="tests")):
            part.close()
            part.close()

    def test_publishers_in_several_processes_at_once(self, broker: Broker, url: str, topic: str) -> None:
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            with publishing(url, topic, "a", calls=40) as a, publishing(url, topic, "b", calls=40) as b:
                received = take(reader, 400)
                assert [a.wait(), b.wait()] == [0, 0]
        found = [parse(delivery.value) for delivery in received]
        for name in "ab":
            mine = [number for number in found if number.publisher == name]
            assert mine == [Numbered(name, call, index) for call in range(40) for index in range(5)]

    @pytest.mark.slow
    def test_nothing_acknowledged_is_lost_when_the_publisher_is_killed(self, broker: Broker, url: str, topic: str) -> None:
        acknowledged: list[tuple[str, int]] = []
        with following(broker, topic) as reader:
            reader.poll(max_messages=1, timeout=0)
            for life in range(8):
                with publishing(url, topic, f"life-{life}", calls=1_000_000) as process:
                    assert process.stdout
                    acknowledged += [(f"life-{life}", int(process.stdout.readline()))]
                    time.sleep(random.uniform(0.0, 0.25))
                    process.kill()
                    acknowledged += [(f"life-{life}", int(line)) for line in process.stdout]
            expected = {Numbered(name, call, index) for name, call in acknowledged for index in range(5)}
            found: Counter[Numbered] = Counter()
            while not expected <= found.keys():
                found.update(parse(delivery.value) for delivery in take(reader, 1))
            found.update(parse(delivery.value) for delivery in reader.poll(max_messages=10_000, timeout=0.5))
        if self.stores_once:
            assert set(found.values()) == {1}

    @staticmethod
    def assert_clear(error: BrokerError, broker: Broker, topic: str) -> None:
        """An error that a person can act on."""
        assert broker.url in error.message
        assert topic in error.message
        assert error.remedy


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


class QueueContract(BrokerContract):
    """Queues: deliveries acknowledged one by one."""

    def test_it_says_that_it_is_a_queue(self, broker: Broker) -> None:
        assert not broker.capabilities.log
        with pytest.raises(ConfigurationError):
            broker.log_reader()

    def test_readers_of_a_group_share_the_deliveries(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        with following(broker, topic) as one, following(broker, topic) as other:
            for reader in (one, other):
                reader.poll(max_messages=1, timeout=0)
            publisher.publish(numbered(topic, "p", 0, 100))
            found: Counter[Numbered] = Counter()

            def drained() -> bool:
                for reader in (one, other):
                    deliveries = reader.poll(max_messages=5, timeout=0.2)
                    found.update(parse(delivery.value) for delivery in deliveries)
                    reader.acknowledge(deliveries)
                return len(found) >= 100

            eventually(drained, "all deliveries came")
        assert set(found.values()) == {1}
