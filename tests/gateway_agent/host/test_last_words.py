"""A driver that has ended while the agent's disk takes nothing: its last events are waited for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_agent.driver import Channel, Context, Driver, NoSettings
from gateway_agent.host import child
from gateway_agent.host.child import Child
from gateway_agent.host.context import ChildContext
from gateway_agent.host.encoding import event_encoder
from gateway_agent.host.link import Link
from gateway_agent.host.messages import End, Events, ToAgent, ToChild
from schemas.registry import shipped
from tests.gateway_agent.kit import eventually


class One(Driver[Any]):
    """Emits one event and is finished."""

    channels = (Channel("a"),)

    def run(self, context: Context) -> None:
        context.emit("d", "a", value=1.0)


class Ending:
    """A child whose driver has returned, on its own thread, and the agent's end of its link."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.link: Link[ToAgent] = Link(ours, ToAgent)
        its: Link[ToChild] = Link(theirs, ToChild)
        encoders = {"a": event_encoder(shipped("Reading"), "a")}
        self.context = ChildContext(its.send, encoders=encoders, topics={}, stored=b"", max_event_bytes=1000)
        self.flushes = 0
        flush = self.context.flush

        def counted(timeout: float = 30.0) -> bool:
            self.flushes += 1
            return flush(timeout)

        self.context.flush = counted  # type: ignore[method-assign]
        self.thread = threading.Thread(target=Child(its)._drive, args=(One(NoSettings()), self.context))
        self.thread.start()

    def events(self) -> Events:
        message = self.link.receive(20.0)
        assert isinstance(message, Events)
        return message

    def end(self) -> End:
        message = self.link.receive(20.0)
        assert isinstance(message, End)
        return message


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ending]:
    monkeypatch.setattr(child, "_LAST_WORDS", 0.02)
    made = Ending()
    yield made
    made.context.outgoing.lost()
    made.thread.join(20)
    assert not made.thread.is_alive()
    made.link.close()


def test_a_full_outbox_does_not_make_a_finished_driver_fail(ending: Ending) -> None:
    batch = ending.events()
    eventually(lambda: ending.flushes > 3)
    eventually(lambda: ending.context.outgoing.waiting, what="waiting, so that a watchdog does not take it for hung")
    ending.context.outgoing.acknowledged(batch.number)
    assert ending.end() == End("finished", "finished")


def test_an_agent_that_stops_is_not_waited_for_without_an_end(ending: Ending) -> None:
    ending.events()
    eventually(lambda: ending.flushes > 3)
    ending.context.stop()
    assert ending.end().kind == "failed"
