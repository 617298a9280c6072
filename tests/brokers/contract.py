"""What every broker promises, as tests. A broker joins with a subclass that has fixtures and nothing else.

`log_contract.LogContract` is for logs, `queue_contract.QueueContract` for queues. A subclass gives the fixtures
`url` and `unavailable_url`, a log also `expire`; the URL allows messages of 500 kB. What a broker cannot do it
says in its `Capabilities`, and the test that is then left out carries their notes as the reason.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing

import pytest

from brokers import Broker, BrokerError, BrokerUnavailable, Delivery, Message, Publisher, PublishError, connect
from brokers.positions import MemoryPositions
from brokers.subscription import subscribe
from tests.brokers.kit import Numbered, following, parse, publishing, take
from tests.brokers.patience import acknowledge_or_again

KEYS = [f"key-{number}" for number in range(7)]


class BrokerContract:
    """Both families."""

    #: A publish that returned has stored each message once; where a client repeats by itself, at least once.
    stores_once = True
    #: A group that is reading notices nothing when it is made known again; otherwise what it acknowledged last may come again.
    keeps_quietly = True
    #: Of the publisher that is killed.
    LIVES = 5

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

    def test_what_is_kept_for_a_group_waits_until_it_reads(self, broker: Broker, topic: str, publisher: Publisher) -> None:
        broker.keep([topic], group="late")
        publisher.publish([Message(topic, "key", str(number).encode()) for number in range(5)])
        broker.keep([topic], group="late")
        with following(broker, topic, group="late") as reader:
            assert [delivery.value for delivery in take(reader, 5)] == [str(number).encode() for number in range(5)]
            # A gateway that starts sees to it again, while the group is reading.
            broker.keep([topic], group="late")
            publisher.publish([Message(topic, "key", b"later")])
            came: list[Delivery] = []
            while not came or came[-1].value != b"later":
                came += (deliveries := take(reader, 1, acknowledge=False))
                acknowledge_or_again(reader, deliveries)
            again = came[:-1]
            assert all(delivery.redelivered for delivery in again)
            assert not again or not self.keeps_quietly

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

    def test_a_missing_topic_is_made_or_asked_for_by_name(self, broker: Broker, publisher: Publisher) -> None:
        message = Message(f"missing-{uuid.uuid4().hex[:12]}", "key", b"value")
        if broker.capabilities.creates_topics:
            publisher.publish([message])
            return
        with pytest.raises(PublishError) as caught:
            publisher.publish([message], timeout=10)
        assert (caught.value.unacknowledged, caught.value.refused) == ((0,), ())
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
            for life in range(self.LIVES):
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
