"""The context on the child's side: what is sent together, with which state, and what is not."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from gateway_agent.driver import Stopped
from gateway_agent.host.context import ChildContext
from gateway_agent.host.encoding import event_encoder
from gateway_agent.host.messages import MAX_BATCH_BYTES, MAX_BATCHES, Events, Line, Message, Rejected
from gateway_agent.host.state import MAX_BYTES, StateError
from schemas.errors import SchemaError
from schemas.registry import shipped
from tests.gateway_agent.kit import eventually


class Agent:
    """Takes messages; says that batches are on disk when it is told to, or at once."""

    def __init__(self, *, quick: bool = True, stored: bytes = b"", single: tuple[str, ...] = (), most: int = 1000) -> None:
        self.messages: list[Message] = []
        self.quick = quick
        self.context = ChildContext(
            self.send,
            encoders={name: event_encoder(shipped("Reading"), name) for name in ("a", "b")},
            topics=dict.fromkeys(single, check),
            stored=stored,
            max_event_bytes=most,
        )

    def send(self, message: Message) -> None:
        self.messages.append(message)
        if self.quick and isinstance(message, Events):
            self.context.outgoing.acknowledged(message.number)

    @property
    def batches(self) -> list[Events]:
        return [message for message in self.messages if isinstance(message, Events)]

    @property
    def events(self) -> int:
        return sum(len(group.tails) for batch in self.batches for group in batch.groups)

    @property
    def states(self) -> list[Any]:
        return [msgspec.json.decode(batch.state) for batch in self.batches if batch.state is not None]


def check(device: str) -> str:
    from schemas.topics import event_topic

    return event_topic("site", "app", "a", device=device)


def test_what_happens_together_is_one_batch_with_its_state() -> None:
    agent = Agent()
    with agent.context.together():
        for number in range(2500):
            agent.context.emit("d", "a", value=float(number))
        agent.context.state["at"] = 2500
    eventually(lambda: agent.batches)
    (batch,) = agent.batches
    assert len(batch.groups[0].tails) == 2500
    assert agent.states == [{"at": 2500}]


def test_after_an_exception_nothing_of_it_is_sent_nor_stored() -> None:
    agent = Agent(stored=b'{"at": 1}')
    agent.context.emit("d", "a", value=1.0)
    with pytest.raises(RuntimeError), agent.context.together():  # noqa: PT012
        agent.context.emit("d", "a", value=2.0)
        agent.context.emit("e", "b", value=3.0)
        agent.context.state["at"] = 2
        raise RuntimeError
    assert agent.context.state["at"] == 1
    agent.context.emit("e", "b", value=4.0)
    assert agent.context.flush()
    assert agent.events == 2
    assert [device for batch in agent.batches for device in batch.devices] == [("d", "a"), ("e", "b")]
    assert agent.states == []


def test_an_inner_together_belongs_to_the_outer_one() -> None:
    agent = Agent()
    with agent.context.together():
        with agent.context.together():
            agent.context.emit("d", "a", value=1.0)
        agent.context.flush(0.0)
        assert agent.batches == []
        agent.context.emit("d", "a", value=2.0)
    assert agent.context.flush()
    assert [len(batch.groups[0].tails) for batch in agent.batches] == [2]


def test_events_do_not_wait_for_more() -> None:
    agent = Agent()
    agent.context.emit("d", "a", value=1.0)
    eventually(lambda: agent.events == 1)


def test_many_events_of_which_one_does_not_fit_are_not_taken() -> None:
    agent = Agent()
    with pytest.raises(SchemaError):
        agent.context.emit_many([("d", "a", 1, {"value": 1.0}), ("d", "a", 1, {"value": "x"})])
    assert agent.context.flush()
    assert agent.events == 0


def test_many_events_of_many_bytes_are_taken_in_parts(agent_of_texts: Agent) -> None:
    """However large each is, up to what one may have: no part is more than can become durable together."""
    sizes = [1_500_000, 1_500_000, 3_900_000, 10, 2_097_000, 2_097_000, *[10] * 2_500]
    agent = agent_of_texts
    agent.context.emit("d", "text", value="x" * 100_000)
    agent.context.emit_many(("d", "text", 1, {"value": "x" * size}) for size in sizes)
    assert agent.context.flush()
    assert agent.events == 1 + len(sizes)
    assert all(sum(map(len, batch.groups[0].tails)) <= MAX_BATCH_BYTES for batch in agent.batches)


def test_many_events_inside_of_together_are_taken_as_a_whole_or_not_at_all(agent_of_texts: Agent) -> None:
    context = agent_of_texts.context
    large = ("d", "text", 1, {"value": "x" * 1_500_000})
    with context.together():
        context.emit_many([large, large])
        context.state["at"] = 1
        with pytest.raises(SchemaError, match="to become durable together"):
            context.emit_many([large, ("e", "text", 1, {"value": ""})])
        context.emit("d", "text", value="y")
    assert context.flush()
    (batch,) = agent_of_texts.batches
    assert len(batch.groups[0].tails) == 3
    assert batch.devices == [("d", "text")]
    assert agent_of_texts.states == [{"at": 1}]


@pytest.fixture
def agent_of_texts() -> Agent:
    agent = Agent(most=MAX_BATCH_BYTES)
    agent.context._encoders["text"] = event_encoder(shipped("Text"), "text")
    return agent


def test_credit_bounds_what_is_under_way_and_the_agents_end_is_an_exception() -> None:
    agent = Agent(quick=False)
    raised = threading.Event()

    def emit() -> None:
        try:
            while True:
                agent.context.emit("d", "a", value=1.0)
        except Stopped:
            raised.set()

    thread = threading.Thread(target=emit, daemon=True)
    thread.start()
    eventually(lambda: len(agent.batches) == MAX_BATCHES)
    agent.context.outgoing.acknowledged(agent.batches[2].number)
    eventually(lambda: len(agent.batches) == MAX_BATCHES + 3)
    agent.context.outgoing.lost()
    assert raised.wait(10)


def test_a_channel_with_a_topic_per_device_refuses_devices_that_cannot_be_in_one() -> None:
    agent = Agent(single=("a",))
    with pytest.raises(SchemaError, match="'pump 7' cannot name a device"):
        agent.context.emit("pump 7", "a", value=1.0)
    agent.context.emit("pump 7", "b", value=1.0)
    agent.context.emit("pump-7", "a", value=1.0)
    assert agent.context.flush()
    assert {(group.channel, group.device) for batch in agent.batches for group in batch.groups} == {("a", "pump-7"), ("b", "")}


def test_state_is_what_was_stored_and_copies_of_it() -> None:
    agent = Agent(stored=b'{"list": [1, 2], "gone": 1}')
    state = agent.context.state
    state["list"].append(3)
    assert state["list"] == [1, 2]
    del state["gone"]
    assert dict(state) == {"list": [1, 2]}
    assert agent.context.flush()
    assert agent.states == [{"list": [1, 2]}]


@pytest.mark.parametrize("value", [object(), {1, 2}.__iter__(), "x" * MAX_BYTES])
def test_state_that_is_no_json_or_too_large_is_refused_and_nothing_changed(value: object) -> None:
    agent = Agent(stored=b'{"at": 1}')
    with pytest.raises(StateError):
        agent.context.state["at"] = value
    assert agent.context.state["at"] == 1


def test_sleeping_ends_when_stopping_and_says_so() -> None:
    agent = Agent()
    assert agent.context.sleep(0.01)
    agent.context.stop()
    assert not agent.context.sleep(60)
    assert agent.context.stopping


def test_what_is_rejected_and_logged_reaches_the_agent() -> None:
    agent = Agent()
    agent.context.reject("file.csv:7", "'x' is not a number")
    agent.context.log.warning("odd", device="d", error=ValueError("x"))
    assert agent.messages == [
        Rejected(1, "file.csv:7", "'x' is not a number"),
        Line("warning", "odd", {"device": "d", "error": "x"}),
    ]


def test_an_event_larger_than_the_broker_takes_is_refused_to_the_driver() -> None:
    agent = Agent(most=100)
    with pytest.raises(SchemaError, match="100 are the most"):
        agent.context.emit("d" * 200, "a", value=1.0)
