"""Kestrel keeps the contract, against the tests' own server (`tests.servers.kestrel`)."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from brokers import Broker, BrokerRefused, BrokerUnavailable, Message, PublishError, QueueReader, connect
from brokers.subscription import subscribe
from tests.brokers.kit import ROOT, Numbered, eventually, following, numbered, parse, take
from tests.brokers.patience import ended_within, poll_patiently, publish_patiently
from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract
from tests.servers.kestrel import KestrelServer

TOPIC = "site.app.channel"
Start = Callable[..., KestrelServer]


class TestKestrel(ServerContract, QueueContract):
    SERVER = "kestrel"
    ALERT: ClassVar = {"answer_timeout": "1s"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers with arguments of their own."""
    started: list[KestrelServer] = []

    def start(*arguments: str, fanout_only: bool = True) -> KestrelServer:
        server = KestrelServer(tmp_path / str(len(started)), *(["--fanout-only"] if fanout_only else []), *arguments)
        started.append(server)
        server.process.start()
        return server

    yield start
    for server in started:
        server.process.stop()
        server.proxy.close()


def values(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def messages(*numbers: int) -> list[Message]:
    return [Message(TOPIC, "key", value) for value in values(*numbers)]


def take_patiently(reader: QueueReader, count: int) -> list[bytes]:
    """The values of ``count`` deliveries, some servers being away."""
    found: list[bytes] = []

    def came() -> bool:
        deliveries = poll_patiently(reader)
        reader.acknowledge(deliveries)
        found.extend(delivery.value for delivery in deliveries)
        return len(found) >= count

    eventually(came, f"{count} deliveries came")
    return found


def say(server: KestrelServer, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request)
        assert client.recv(100) == b"END\r\n"


def puts(server: KestrelServer) -> int:
    """How many messages the server was asked to store."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client, client.makefile("rb") as lines:
        client.sendall(b"stats\r\n")
        return int(next(line.split()[2] for line in lines if line.startswith(b"STAT cmd_set ")))


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of a server that answers no attempt to connect: others wait already, as many as may."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as opened:
        for _ in range(4):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class TestReading:
    def test_a_reader_holds_as_many_as_it_may_and_goes_on_when_it_acknowledges(self, start: Start) -> None:
        broker = connect(start("--max-open-reads", "3").url(open_reads="3"))
        with following(broker, TOPIC) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(messages(*range(5)))
            first = reader.poll(max_messages=10, timeout=1)
            assert [delivery.value for delivery in first] == values(0, 1, 2)
            assert list(reader.poll(max_messages=10, timeout=0.1)) == []
            reader.acknowledge(first[:1])
            assert [delivery.value for delivery in reader.poll(max_messages=10, timeout=1)] == values(3)

    def test_it_hands_out_what_it_has_fetched_a_few_at_a_time(self, start: Start) -> None:
        broker = connect(start("--max-open-reads", "100").url(open_reads="100"))
        with following(broker, TOPIC) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(messages(*range(50)))
            found: list[bytes] = []
            while len(found) < 50:
                deliveries = reader.poll(max_messages=3, timeout=1)
                assert 1 <= len(deliveries) <= 3
                reader.acknowledge(deliveries)
                found += [delivery.value for delivery in deliveries]
            assert found == values(*range(50))

    def test_more_than_the_server_allows_is_refused_and_nothing_is_lost(self, start: Start) -> None:
        server = start("--max-open-reads", "2")
        broker = connect(server.url(open_reads="10"))
        broker.keep([TOPIC], group="tests")
        with closing(broker.publisher()) as publisher:
            publisher.publish(messages(*range(5)))
        with following(broker, TOPIC) as reader, pytest.raises(BrokerRefused, match="maxOpenTransactions") as caught:
            reader.poll(max_messages=1, timeout=1)
        assert TOPIC in caught.value.message
        assert broker.url in caught.value.message
        with following(connect(server.url(open_reads="1")), TOPIC) as reader:
            assert {delivery.value for delivery in take(reader, 5)} == set(values(*range(5)))

    def test_what_was_acknowledged_out_of_turn_is_confirmed_with_what_came_before_it(self, start: Start) -> None:
        server = start("--max-open-reads", "100")
        broker = connect(server.url(open_reads="100"))
        broker.keep([TOPIC], group="tests")
        with closing(broker.publisher()) as publisher:
            publisher.publish(messages(*range(5)))
        with following(broker, TOPIC) as reader:
            held = take(reader, 5, acknowledge=False)
            reader.acknowledge(held[2:4])
            reader.acknowledge(held[:2])
        with following(broker, TOPIC) as reader:
            assert [delivery.value for delivery in take(reader, 1)] == values(4)

    def test_a_rejected_message_comes_before_others_and_goes_to_anybody_when_the_reader_closes(self, start: Start) -> None:
        broker = connect(start("--max-open-reads", "100").url(open_reads="100"))
        broker.keep([TOPIC], group="tests")
        with closing(broker.publisher()) as publisher:
            publisher.publish(messages(*range(4)))
        with following(broker, TOPIC) as reader:
            held = reader.poll(max_messages=2, timeout=1)
            reader.reject(held)
            again = reader.poll(max_messages=2, timeout=1)
            assert [(delivery.value, delivery.redelivered) for delivery in again] == [(b"0", True), (b"1", True)]
            reader.acknowledge(again[:1])
            reader.reject(again)
        with following(broker, TOPIC) as reader:
            assert [delivery.value for delivery in take(reader, 3)] == values(1, 2, 3)

    def test_what_a_lost_connection_held_cannot_be_acknowledged_and_comes_again(self, start: Start) -> None:
        server = start("--max-open-reads", "100")
        broker = connect(server.proxied_url(open_reads="100"))
        broker.keep([TOPIC], group="tests")
        with closing(connect(server.url()).publisher()) as publisher:
            publisher.publish(messages(*range(3)))
        with following(broker, TOPIC) as reader:
            held = take(reader, 3, acknowledge=False)
            server.proxy.cut()
            with pytest.raises(BrokerUnavailable, match="3 of 3") as caught:
                reader.acknowledge(held)
            assert TOPIC in caught.value.message
            server.proxy.restore()
            assert take_patiently(reader, 3) == values(0, 1, 2)

    @pytest.mark.slow
    def test_the_order_holds_after_a_reader_was_killed_that_held_many(self, start: Start) -> None:
        server = start("--max-open-reads", "300")
        url = server.url(open_reads="300")
        broker = connect(url)
        broker.keep([TOPIC], group="tests")
        with closing(broker.publisher()) as publisher:
            for call in range(20):
                publisher.publish(numbered(TOPIC, "p", call, 20))
        command = [sys.executable, "-m", "tests.brokers.hold", url, TOPIC, "300"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "holding 300\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
        with following(broker, TOPIC) as reader:
            found = [parse(delivery.value) for delivery in take(reader, 400)]
        assert found == [Numbered("p", call, index) for call in range(20) for index in range(20)]

    def test_several_topics_are_read_at_once(self, start: Start) -> None:
        broker = connect(start("--max-open-reads", "10").url(open_reads="10"))
        topics = ["site.app.one", "site.app.two", "site.app.three"]
        reader = subscribe(broker, topics, group="tests")
        with closing(reader), closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish([Message(topic, "key", b"%d" % number) for number in range(20) for topic in topics])
            found: dict[str, list[bytes]] = {topic: [] for topic in topics}
            for delivery in take(reader, 60):
                found[delivery.topic].append(delivery.value)
            assert found == {topic: values(*range(20)) for topic in topics}
            assert list(reader.poll(max_messages=1, timeout=0.1)) == []
            publisher.publish([Message(topics[1], "key", b"last")])
            assert [(delivery.topic, delivery.value) for delivery in take(reader, 1)] == [(topics[1], b"last")]

    def test_what_others_have_put_into_a_queue_comes_whole_and_without_a_key(self, start: Start) -> None:
        server = start("--max-open-reads", "100")
        broker = connect(server.url(open_reads="100"))
        with following(broker, TOPIC) as reader:
            reader.poll(max_messages=1, timeout=0)
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(b"set site:app:channel 0 0 7\r\nforeign\r\n")
                assert client.recv(100) == b"STORED\r\n"
            (delivery,) = take(reader, 1)
        assert (delivery.key, delivery.value, delivery.topic) == ("", b"foreign", TOPIC)

    def test_large_messages_are_fetched_a_few_at_a_time(self, start: Start) -> None:
        broker = connect(start("--max-open-reads", "100").url(open_reads="100", max_message_bytes="4MB"))
        broker.keep([TOPIC], group="tests")
        sent = [Message(TOPIC, "key", bytes([number]) * 3_000_000) for number in range(20)]
        with closing(broker.publisher()) as publisher:
            publisher.publish(sent)
        with following(broker, TOPIC) as reader:
            assert [delivery.value[:1] for delivery in take(reader, 20)] == [message.value[:1] for message in sent]


class TestPublishing:
    def test_a_full_queue_is_told_and_takes_the_rest_when_there_is_room(self, start: Start) -> None:
        server = start("--max-items", "3", fanout_only=False)
        broker = connect(server.url())
        with closing(broker.publisher()) as publisher:
            with pytest.raises(PublishError, match="did not store") as caught:
                publisher.publish(messages(*range(5)))
            assert caught.value.unacknowledged == (3, 4)
            assert caught.value.refused == ()
            assert TOPIC in caught.value.message
            assert "maxItemSize" in caught.value.remedy
            say(server, b"flush site:app:channel\r\n")
            publisher.publish(messages(3, 4))

    def test_after_a_failure_no_later_message_of_the_key_counts_as_stored(self, start: Start) -> None:
        broker = connect(start("--max-item-bytes", "1000").url())
        sent = [Message(TOPIC, key, bytes(size)) for key, size in (("a", 1), ("a", 2000), ("b", 1), ("a", 1), ("b", 1))]
        with closing(broker.publisher()) as publisher:
            with pytest.raises(PublishError) as caught:
                publisher.publish(sent)
            assert caught.value.unacknowledged == (1, 3)
            publisher.publish(sent[3:4])

    def test_nothing_overtakes_what_was_not_stored_and_other_topics_go_on(self, start: Start) -> None:
        """Guarantee: a full queue holds up no other, and while it is full, nothing comes before what it turned down."""
        server = start("--max-items", "3", fanout_only=False)
        others = [Message(f"site.app.other-{number}", "key", b"other") for number in range(4)]
        broker = connect(server.url())
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError):
            publisher.publish(messages(*range(5)))
        before = puts(server)
        # A new publisher, as a gateway makes one after every failure.
        with closing(broker.publisher()) as publisher:
            with pytest.raises(PublishError, match="did not store") as caught:
                publisher.publish([*messages(3, 4), *others])
            assert caught.value.unacknowledged == (0, 1)
            assert puts(server) - before == 1 + len(others)
            say(server, b"flush site:app:channel\r\n")
            publisher.publish([*messages(3, 4), *others])
            assert puts(server) - before == 1 + 2 + 2 * len(others)

    def test_a_server_that_takes_nothing_now_is_asked_again(self, start: Start) -> None:
        server = start()
        broker = connect(server.url())
        with closing(broker.publisher()) as publisher:
            publisher.publish(messages(1))
            say(server, b"status readonly\r\n")
            with pytest.raises(PublishError, match="SERVER_ERROR") as caught:
                publisher.publish(messages(2, 3))
            assert caught.value.unacknowledged == (0, 1)
            assert caught.value.refused == ()
            say(server, b"status up\r\n")
            publisher.publish(messages(2, 3))

    @pytest.mark.slow
    def test_idle_users_keep_their_connections(self, start: Start) -> None:
        broker = connect(start("--max-open-reads", "10").url(open_reads="10", answer_timeout="1s"))
        with following(broker, TOPIC) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            publisher.publish(messages(1))
            held = reader.poll(max_messages=1, timeout=1)
            # Many requests that wait, and longer than a server may take for an answer.
            assert list(reader.poll(max_messages=1, timeout=4)) == []
            # Over another connection it could not be acknowledged.
            reader.acknowledge(held)
            publisher.publish(messages(2))
            assert [delivery.value for delivery in take(reader, 1)] == values(2)

    def test_a_server_that_was_restarted_meanwhile_goes_unnoticed(self, start: Start) -> None:
        server = start()
        with closing(connect(server.url()).publisher()) as publisher:
            publisher.publish(messages(1))
            server.process.kill()
            server.process.start()
            publisher.publish(messages(2))


class TestSeveralServers:
    @pytest.fixture
    def pair(self, start: Start) -> tuple[KestrelServer, KestrelServer]:
        return start("--max-open-reads", "1000"), start("--max-open-reads", "1000")

    @pytest.fixture
    def broker(self, pair: tuple[KestrelServer, KestrelServer]) -> Broker:
        one, other = pair
        return connect(f"kestrel://127.0.0.1:{one.port},127.0.0.1:{other.port}?open_reads=1000")

    def test_keys_are_spread_and_stay_in_order(self, pair: tuple[KestrelServer, KestrelServer], broker: Broker) -> None:
        broker.keep([TOPIC], group="tests")
        keys = [f"key-{number}" for number in range(20)]
        with closing(broker.publisher()) as publisher:
            publisher.publish([Message(TOPIC, key, b"%d" % number) for number in range(10) for key in keys])
        found: dict[str, list[bytes]] = {key: [] for key in keys}
        with following(broker, TOPIC) as reader:
            for delivery in take(reader, 200):
                found[delivery.key].append(delivery.value)
        assert all(numbers == values(*range(10)) for numbers in found.values())

        with closing(broker.publisher()) as publisher:
            publisher.publish([Message(TOPIC, key, b"value") for key in keys])
        shares = []
        for server in pair:
            with following(connect(server.url()), TOPIC) as reader:
                shares.append({delivery.key for delivery in reader.poll(max_messages=100, timeout=1)})
        assert all(shares)
        assert sorted([*shares[0], *shares[1]]) == sorted(keys)

    def test_one_that_does_not_answer_holds_up_only_its_own_keys(self, pair: tuple[KestrelServer, KestrelServer]) -> None:
        one, other = pair
        broker = connect(f"kestrel://127.0.0.1:{one.proxy.port},127.0.0.1:{other.port}?open_reads=1000&answer_timeout=60s")
        broker.keep([TOPIC], group="tests")
        with following(broker, TOPIC) as reader, closing(connect(other.url()).publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            one.proxy.hang()
            publisher.publish(messages(1, 2))
            with ended_within(30):
                assert take_patiently(reader, 2) == values(1, 2)
                publisher.publish(messages(3))
                assert take_patiently(reader, 1) == values(3)

    def test_one_that_swallows_packets_holds_up_only_its_own_keys(self, start: Start) -> None:
        other = start("--max-open-reads", "1000")
        with swallowing() as port:
            # It comes first, and has the whole time of the call to connect.
            broker = connect(f"kestrel://127.0.0.1:{port},127.0.0.1:{other.port}?open_reads=1000&answer_timeout=60s")
            connect(other.url()).keep([TOPIC], group="tests")
            sent = [Message(TOPIC, f"key-{number % 10}", b"%d" % number) for number in range(40)]
            with following(broker, TOPIC) as reader, closing(broker.publisher()) as publisher:
                with pytest.raises(PublishError, match=str(port)) as caught:
                    publisher.publish(sent, timeout=1)
                stored = [message.value for index, message in enumerate(sent) if index not in caught.value.unacknowledged]
                assert 0 < len(stored) < 40
                with ended_within(30):
                    assert take_patiently(reader, len(stored)) == stored
                    assert list(reader.poll(max_messages=1, timeout=0.1)) == []

    def test_one_that_is_away_holds_up_only_its_own_keys(self, pair: tuple[KestrelServer, KestrelServer], broker: Broker) -> None:
        broker.keep([TOPIC], group="tests")
        sent = [Message(TOPIC, f"key-{number % 10}", b"%d" % number) for number in range(40)]
        with following(broker, TOPIC) as reader, closing(broker.publisher()) as publisher:
            reader.poll(max_messages=1, timeout=0)
            pair[1].process.kill()
            with pytest.raises(PublishError) as caught:
                publisher.publish(sent, timeout=5)
            lost = [sent[index] for index in caught.value.unacknowledged]
            stored = [message for message in sent if message not in lost]
            assert lost
            assert stored
            assert not {message.key for message in lost} & {message.key for message in stored}
            assert str(pair[1].port) in caught.value.message
            assert take_patiently(reader, len(stored)) == [message.value for message in stored]
            with pytest.raises(BrokerUnavailable, match=str(pair[1].port)):
                reader.poll(max_messages=1, timeout=0.1)

            pair[1].process.start()
            publish_patiently(publisher, lost)
            assert take_patiently(reader, len(lost)) == [message.value for message in lost]
