"""However a subscription ends, nothing is kept for it any more by a broker that keeps things for groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from brokers.contract import Delivery
from brokers.errors import BrokerError, BrokerRefused, BrokerUnavailable
from master.client import Subscription
from master.client import subscription as module
from master.client.catalogue import Catalogue
from master.client.http import Http


class Queue:
    """Broker and reader in one: knows a group from its first look on. ``failures`` are raised by one look each."""

    def __init__(self) -> None:
        self.groups: set[str] = set()
        self.failures: list[BrokerError | None] = []
        self.open = False

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        assert self.open
        self.groups.add("reader")
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        return []

    def close(self) -> None:
        self.open = False

    def forget(self, topics: Sequence[str], *, group: str, timeout: float) -> None:
        assert not self.open, "no reader of the group may be at work"
        self.groups.discard("reader")


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()

    def subscribe(*_: Any, **__: Any) -> Queue:
        queue.open = True
        return queue

    monkeypatch.setattr(module, "connect", lambda _url: queue)
    monkeypatch.setattr(module, "subscribe", subscribe)
    return queue


@pytest.fixture
def made(queue: Queue) -> Callable[[], Subscription]:
    catalogue = Catalogue(Http("http://127.0.0.1:1", None))
    return lambda: Subscription(catalogue, "queue://x", "s.a.c", device="d", channel="c", timeout=0.01)


def test_a_loop_that_ends_because_nothing_comes_leaves_no_group_behind(queue: Queue, made: Callable[[], Subscription]) -> None:
    events = made()
    assert queue.groups == {"reader"}
    assert list(events) == []
    assert queue.groups == set()
    assert list(events) == [], "it has ended for good"


def test_one_that_cannot_begin_leaves_no_group_behind(queue: Queue, made: Callable[[], Subscription]) -> None:
    queue.failures = [BrokerUnavailable("away")]
    with pytest.raises(BrokerUnavailable):
        made()
    assert (queue.groups, queue.open) == (set(), False)


def test_one_that_the_broker_refuses_later_leaves_no_group_behind(queue: Queue, made: Callable[[], Subscription]) -> None:
    queue.failures = [None, BrokerRefused("no right any more")]
    with pytest.raises(BrokerRefused):
        list(made())
    assert (queue.groups, queue.open) == (set(), False)
