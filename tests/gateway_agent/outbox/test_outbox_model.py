"""The outbox against a model of what it promises, through any sequence of emitting, publishing, refusing, damage and death."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from gateway_agent.outbox import Batch, Held, Offer, Outbox, Route
from tests.examples import examples
from tests.gateway_agent.kit import Account
from tests.gateway_agent.outbox.kit import GATEWAY, MAIN, READING, tails

POLICIES = ("block", "drop_oldest", "drop_newest")
MAX_BYTES = 6_000


class OutboxMachine(RuleBasedStateMachine):
    """Three topics, one per policy, share a small outbox. What was let go of, in its order, is what a reader has."""

    topics = Bundle("topics")

    @initialize(target=topics)
    def begin(self) -> Any:
        self.root = Path(tempfile.mkdtemp(prefix="outbox-model-"))
        self.lives = 0
        self.now = 1_700_000_000_000_000
        self.value = 0.0
        self.accepted: dict[str, list[float]] = {f"s.a.{policy}": [] for policy in POLICIES}
        self.sent: list[Held] = []
        self.in_hand: list[Held] = []
        self.state: bytes | None = None
        self.waiting: list[list[float]] = []
        self.open(self.root / "0")
        return multiple(*self.accepted)

    def open(self, directory: Path) -> None:
        self.directory = directory
        self.outbox = Outbox(directory, gateway=GATEWAY, transports=[MAIN], max_bytes=MAX_BYTES, clock=lambda: self.now)
        self.after = -1
        self.in_hand = []

    def settled(self) -> None:
        """Everything handed in before is on disk when this returns."""
        self.outbox.accept(Batch("nobody", []))

    @rule(topic=topics, count=st.integers(1, 40), frame_events=st.sampled_from([1, 3, 1000]), stored=st.booleans())
    def emit(self, topic: str, count: int, frame_events: int, stored: bool) -> None:
        policy = topic.rpartition(".")[2]
        values = [self.value + number for number in range(count)]
        self.value += count
        state = b"%d" % int(self.value) if stored else None
        where = Route(topic, MAIN, READING, policy, 80 * frame_events)  # type: ignore[arg-type]
        done: list[Any] = []
        self.outbox.submit(Batch(topic, [Offer(where, tails(values))], state), done.append)
        self.settled()
        if not done:
            # Only a topic that must not drop waits for room. The driver's process ends, and its batch is taken back.
            assert policy == "block"
            assert self.outbox.status().buffered_bytes > MAX_BYTES // 4
            self.outbox.withdraw(topic)
            assert done[0] is not None
            return
        assert done == [None]
        self.accepted[topic] += values
        if stored:
            self.state, self.stored_by = state, topic

    @rule(frames=st.integers(1, 10))
    def hand_out(self, frames: int) -> None:
        held = self.outbox.hand_out(MAIN, after=self.after, max_frames=frames)
        if held:
            self.after = held[-1].id
            self.in_hand += held

    @rule(count=st.integers(1, 10))
    def publish(self, count: int) -> None:
        """A broker takes over the oldest of what is in hand."""
        taken, self.in_hand = self.in_hand[:count], self.in_hand[count:]
        self.sent += taken
        self.outbox.let_go(taken)
        self.settled()

    @rule()
    def refuse(self) -> None:
        """The broker will never take the oldest frame in hand: a publisher then begins again with what stands there."""
        if self.in_hand and self.in_hand[0].count:
            self.outbox.give_up(self.in_hand[:1], "refused")
            self.after = self.in_hand[0].id - 1
            self.in_hand = []

    @rule(clock=st.sampled_from([0, 5_000, 3_600_000_000, -3_600_000_000]), in_order=st.booleans())
    def die(self, clock: int, in_order: bool) -> None:
        """The agent ends, orderly or not: what is on disk now is what the next one finds. The clock may jump meanwhile."""
        self.lives += 1
        self.now += clock
        copy = self.root / str(self.lives)
        before = self.outbox.status()
        if in_order:
            self.outbox.close()
            shutil.copytree(self.directory, copy)
        else:
            shutil.copytree(self.directory, copy)
            self.outbox.close()
        self.open(copy)
        after = self.outbox.status()
        assert after._replace(epoch=0, topics=()) == before._replace(epoch=0, topics=())
        assert after.epoch > before.epoch

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A bit of a frame flips on the disk, while the agent is not running."""
        self.outbox.close()
        with sqlite3.connect(self.directory / "outbox.sqlite") as connection:
            rows = connection.execute("SELECT id, body FROM frames WHERE count > 0 ORDER BY id").fetchall()
            if rows:
                number, body = data.draw(st.sampled_from(rows))
                position = data.draw(st.integers(0, len(body) - 1))
                flipped = body[:position] + bytes([body[position] ^ 1 << data.draw(st.integers(0, 7))]) + body[position + 1 :]
                connection.execute("UPDATE frames SET body = ? WHERE id = ?", (flipped, number))
        connection.close()
        self.open(self.directory)

    @invariant()
    def counts_add_up(self) -> None:
        status = self.outbox.status()
        for one in status.topics:
            assert one.accepted == one.published + one.dropped + one.buffered
            assert one.accepted == len(self.accepted[one.topic])
        assert sum(status.dropped_by_reason.values()) == status.dropped
        if self.state is not None:
            assert self.outbox.state_of(self.stored_by) == self.state

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            try:
                self.everything_arrives_once_in_order_or_is_named_as_dropped()
            finally:
                self.outbox.close()
                shutil.rmtree(self.root)

    def everything_arrives_once_in_order_or_is_named_as_dropped(self) -> None:
        while held := self.outbox.hand_out(MAIN, after=self.after):
            self.after = held[-1].id
            self.in_hand += held
        self.sent += self.in_hand
        self.outbox.let_go(self.in_hand)
        self.settled()
        status = self.outbox.status()
        assert (status.buffered_events, status.buffered_bytes) == (0, 0)
        for topic, values in self.accepted.items():
            account = Account([held.body for held in self.sent if held.topic == topic])
            received = [event["value"] for event in account.events]
            lost = sum(record.last - record.first + 1 for record in account.dropped)
            assert received == sorted(received)
            assert set(received) <= set(values)
            assert len(received) + lost == len(values)
            if topic.endswith("block"):
                assert {record.reason for record in account.dropped} <= {"damaged", "refused"}


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = examples(25, stateful_step_count=30)
