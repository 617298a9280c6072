"""Publishing: in order, until acknowledged, whatever brokers do; one that is away holds up no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokers import connect
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
        (3, 3, "refused"),
        (4, 4, "refused"),
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
