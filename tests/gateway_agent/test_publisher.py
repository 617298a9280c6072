"""Publishing: in order, until acknowledged, whatever brokers do; one that is away holds up no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers import Message, PublishError, connect
from brokers.contract import Publisher
from gateway_agent.outbox import Batch, Offer, Outbox, Route
from gateway_agent.publisher import TransportPublisher, drained
from tests.gateway_agent.kit import Account, bodies, eventually
from tests.gateway_agent.outbox.kit import BLOB, GATEWAY, READING, blob_tail, tails


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path, gateway=GATEWAY, transports=["near", "far"])
    yield made
    made.close()


@contextmanager
def publishing(
    outbox: Outbox, name: str, url: str, report: Callable[[str, str], None] = lambda *_: None
) -> Iterator[TransportPublisher]:
    publisher = TransportPublisher(name, connect(url), outbox, gateway=GATEWAY, groups=("readers",), report=report)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()
        publisher.join(10)


def values(url: str, topic: str) -> list[float]:
    return [event["value"] for event in Account(bodies(url, topic)).events]


def accept(outbox: Outbox, transport: str, numbers: range) -> None:
    for number in numbers:
        outbox.accept(Batch("app", [Offer(Route(f"s.a.{transport}", transport, READING), tails([float(number)]))]))


def test_frames_leave_in_order_and_are_let_go(outbox: Outbox, tmp_path: Path) -> None:
    url = f"local:{tmp_path / 'near'}"
    accept(outbox, "near", range(50))
    with publishing(outbox, "near", url):
        accept(outbox, "near", range(50, 100))
        assert drained(outbox, 20)
    assert values(url, "s.a.near") == [float(number) for number in range(100)]
    assert outbox.status().published == 100


def test_a_broker_that_is_away_holds_up_no_other_and_gets_all_when_it_is_back(outbox: Outbox, tmp_path: Path) -> None:
    reports: list[tuple[str, str]] = []
    away = tmp_path / "away"
    near, far = f"local:{tmp_path / 'near'}", f"local:{away / 'far'}"
    accept(outbox, "far", range(20))
    with (
        publishing(outbox, "far", far, lambda kind, detail: reports.append((kind, detail))) as publisher,
        publishing(outbox, "near", near),
    ):
        eventually(lambda: publisher.state == "unavailable")
        accept(outbox, "near", range(20))
        eventually(lambda: outbox.status().published == 20)
        accept(outbox, "far", range(20, 40))
        away.mkdir()
        assert drained(outbox, 60)
        eventually(lambda: publisher.state != "unavailable")
    assert values(near, "s.a.near") == [float(number) for number in range(20)]
    assert values(far, "s.a.far") == [float(number) for number in range(40)]
    assert [kind for kind, _ in reports] == ["transport_unavailable", "transport_available"]


def test_what_a_broker_will_never_take_is_named_and_does_not_block(outbox: Outbox, tmp_path: Path) -> None:
    """Guarantee: a frame that is too large becomes a `Dropped` record; the rest goes on in order."""
    url = f"local:{tmp_path / 'near'}?max_message_bytes=1000"
    camera = Route("s.a.frames", "near", BLOB)
    for size in (10, 5_000, 20, 6_000, 7_000, 30):
        outbox.accept(Batch("app", [Offer(camera, [blob_tail(size)])]))
    with publishing(outbox, "near", url):
        assert drained(outbox, 20)
    account = Account(bodies(url, "s.a.frames"))
    assert [len(event["value"]) for event in account.events] == [10, 20, 30]
    assert [(record.first, record.last, record.reason) for record in account.dropped] == [
        (1, 1, "refused"),
        (3, 4, "refused"),
    ]
    status = outbox.status()
    assert (status.accepted, status.published, status.dropped) == (6, 3, 3)
    assert status.dropped_by_reason == {"refused": 3}


def test_a_publisher_that_is_stopped_and_made_again_goes_on_where_it_was(outbox: Outbox, tmp_path: Path) -> None:
    url = f"local:{tmp_path / 'near'}"
    for start in range(0, 60, 20):
        accept(outbox, "near", range(start, start + 20))
        with publishing(outbox, "near", url):
            eventually(lambda: bodies(url, "s.a.near"))
    with publishing(outbox, "near", url):
        assert drained(outbox, 20)
    assert values(url, "s.a.near") == [float(number) for number in range(60)]


GOOD, DENIED = "s.a.good", "s.a.denied"


def fill(outbox: Outbox, topics: str | list[str], numbers: range) -> None:
    """A frame for each number and topic."""
    names = [topics] if isinstance(topics, str) else topics
    outbox.accept(
        Batch("app", [Offer(Route(topic, "near", READING), tails([float(number)])) for number in numbers for topic in names])
    )


def buffered(outbox: Outbox, topic: str) -> int:
    return next(one.buffered for one in outbox.status().topics if one.topic == topic)


def deny(tmp_path: Path, topic: str = DENIED) -> Path:
    """A file where the broker would have the folder of the topic: it takes all others."""
    (tmp_path / "near").mkdir(exist_ok=True)
    obstacle = tmp_path / "near" / f"{topic}.log"
    obstacle.touch()
    return obstacle


@pytest.mark.parametrize("ahead", [1, 300])
def test_a_topic_that_the_broker_does_not_take_holds_up_no_other_and_goes_on_in_order(
    outbox: Outbox, tmp_path: Path, ahead: int
) -> None:
    """Guarantee: also when its frames are a whole portion and more, so that it looks as if the broker were away."""
    url = f"local:{tmp_path / 'near'}"
    obstacle = deny(tmp_path)
    reports: list[tuple[str, str]] = []
    fill(outbox, DENIED, range(ahead))
    fill(outbox, GOOD, range(10))
    with publishing(outbox, "near", url, lambda kind, detail: reports.append((kind, detail))) as publisher:
        eventually(lambda: not buffered(outbox, GOOD), within=20)
        eventually(lambda: publisher.waiting.get(DENIED), within=20)
        assert DENIED in publisher.waiting[DENIED]
        assert publisher.state in ("idle", "publishing")
        fill(outbox, GOOD, range(10, 20))
        fill(outbox, DENIED, range(ahead, ahead + 5))
        eventually(lambda: not buffered(outbox, GOOD), within=20)
        assert buffered(outbox, DENIED) == ahead + 5
        obstacle.unlink()
        assert drained(outbox, 60)
        eventually(lambda: not publisher.waiting)
        fill(outbox, DENIED, range(ahead + 5, ahead + 10))
        assert drained(outbox, 20)
    assert values(url, GOOD) == [float(number) for number in range(20)]
    assert values(url, DENIED) == [float(number) for number in range(ahead + 10)]
    assert [kind for kind, _ in reports if kind.startswith("topic")] == ["topic_unavailable", "topic_available"]


def test_a_topic_whose_first_event_comes_while_another_is_not_taken_does_not_wait(outbox: Outbox, tmp_path: Path) -> None:
    url = f"local:{tmp_path / 'near'}"
    deny(tmp_path)
    fill(outbox, DENIED, range(3))
    with publishing(outbox, "near", url) as publisher:
        # By now it waits for seconds between attempts.
        eventually(lambda: publisher.failures >= 6, within=30)
        fill(outbox, GOOD, range(1))
        eventually(lambda: not buffered(outbox, GOOD), within=1.5)
        eventually(lambda: publisher.waiting, within=20)


class Spoiling:
    """A broker whose connection breaks when it is given a topic that it does not take: the whole call fails."""

    def __init__(self, url: str, denied: set[str]) -> None:
        self.broker = connect(url)
        self.denied = denied
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)

    def publisher(self) -> Any:
        return SpoilingPublisher(self, self.broker.publisher())


class SpoilingPublisher:
    def __init__(self, broker: Spoiling, publisher: Publisher) -> None:
        self.broker = broker
        self.publisher = publisher

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        self.broker.calls += 1
        if self.broker.denied & {message.topic for message in messages}:
            raise PublishError("the connection broke", unacknowledged=tuple(range(len(messages))))
        self.publisher.publish(messages, timeout=timeout)

    def close(self) -> None:
        self.publisher.close()


def test_topics_that_spoil_the_whole_call_are_found_and_the_others_go_on(outbox: Outbox, tmp_path: Path) -> None:
    url = f"local:{tmp_path / 'near'}"
    topics = [f"s.a.t{number}" for number in range(6)]
    denied = {topics[0], topics[3]}
    fill(outbox, topics, range(40))
    broker = Spoiling(url, set(denied))
    publisher = TransportPublisher("near", broker, outbox, gateway=GATEWAY, groups=())
    publisher.start()
    try:
        eventually(lambda: publisher.waiting.keys() == denied, within=30)
        eventually(lambda: all(not buffered(outbox, topic) for topic in topics if topic not in denied), within=30)
        broker.denied.clear()
        assert drained(outbox, 60)
    finally:
        publisher.stop()
        publisher.join(10)
    for topic in topics:
        assert values(url, topic) == [float(number) for number in range(40)], topic


@pytest.mark.slow
def test_a_broker_that_is_away_is_asked_seldom_whatever_the_number_of_topics(outbox: Outbox, tmp_path: Path) -> None:
    """Guarantee: a transport that fails as a whole waits as a whole, and afterwards all topics go together again."""
    url = f"local:{tmp_path / 'near'}"
    topics = [f"s.a.t{number}" for number in range(20)]
    fill(outbox, topics, range(20))
    broker = Spoiling(url, set(topics))
    publisher = TransportPublisher("near", broker, outbox, gateway=GATEWAY, groups=())
    publisher.start()
    try:
        started = time.monotonic()
        eventually(lambda: broker.calls >= 6, within=30)
        assert time.monotonic() - started > 0.5
        assert publisher.state == "unavailable"
        assert publisher.waiting == {}
        broker.denied.clear()
        broker.calls = 0
        assert drained(outbox, 60)
        # What had been tried goes topic by topic, the rest in portions of all.
        assert broker.calls < 40
    finally:
        publisher.stop()
        publisher.join(10)
    for topic in topics:
        assert values(url, topic) == [float(number) for number in range(20)], topic


def test_what_names_a_loss_is_kept_until_the_broker_takes_it(outbox: Outbox, tmp_path: Path) -> None:
    """Guarantee: a broker that refuses even control records gets them when it takes any; meanwhile they do not pile up."""
    near = tmp_path / "near"
    fill(outbox, GOOD, range(10))
    with publishing(outbox, "near", f"local:{near}?max_message_bytes=8") as publisher:
        eventually(lambda: outbox.status().dropped == 10)
        fill(outbox, GOOD, range(10, 20))
        eventually(lambda: outbox.status().dropped == 20, within=30)
        eventually(lambda: publisher.waiting, within=20)
    eventually(lambda: len(outbox.hand_out("near", after=-1)) == 2, what="an EpochStart and one Dropped")
    fill(outbox, GOOD, range(20, 22))
    with publishing(outbox, "near", f"local:{near}"):
        assert drained(outbox, 20)
    account = Account(bodies(f"local:{near}", GOOD))
    assert [event["value"] for event in account.events] == [20.0, 21.0]
    assert [(record.first, record.last, record.reason) for record in account.dropped] == [(0, 19, "refused")]
