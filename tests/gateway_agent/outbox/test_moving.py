"""A topic that moves to another transport keeps its order: the new one gets nothing before the old one has given up all."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway_agent.outbox import Batch, Held, Offer, Outbox, Route
from schemas.control import Dropped, EpochStart, decode_control, is_control
from schemas.frame import decode_frame
from schemas.registry import Schemas
from tests.gateway_agent.outbox.kit import GATEWAY, READING, tails

OLD, NEW = "old", "new"
TOPIC, OTHER = "site.app.moved", "site.app.other"


def opened(path: Path, **options: int) -> Outbox:
    return Outbox(path, gateway=GATEWAY, transports=[OLD, NEW], **options)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = opened(tmp_path)
    yield made
    made.close()


def accept(outbox: Outbox, transport: str, number: int, topic: str = TOPIC) -> None:
    outbox.accept(Batch("app", [Offer(Route(topic, transport, READING), tails([float(number)]))]))


def take(outbox: Outbox, transport: str, after: int = -1) -> list[Held]:
    return outbox.hand_out(transport, after=after, max_frames=1_000)


def values(frames: list[Held], topic: str = TOPIC) -> list[float]:
    schemas = Schemas.with_shipped()
    events = [frame.body for frame in frames if frame.topic == topic and not is_control(frame.body)]
    return [event["value"] for body in events for event in decode_frame(body, schemas).events]


def settled(outbox: Outbox, frames: list[Held]) -> None:
    """Let go, and wait until that is on disk."""
    outbox.let_go(frames)
    accept(outbox, NEW, 0, "site.app.wait")


def test_new_frames_wait_until_the_old_transport_has_none_and_others_do_not(outbox: Outbox) -> None:
    for number in range(3):
        accept(outbox, OLD, number)
    for number in range(3, 6):
        accept(outbox, NEW, number)
        accept(outbox, NEW, number, OTHER)
    seen = take(outbox, NEW)
    assert values(seen) == []
    assert values(seen, OTHER) == [3.0, 4.0, 5.0]
    outbox.let_go(seen)
    old = take(outbox, OLD)
    assert values(old) == [0.0, 1.0, 2.0]
    settled(outbox, old[:-1])
    assert values(take(outbox, NEW, seen[-1].id)) == []
    settled(outbox, old[-1:])
    # Behind what the publisher has seen already, so that it finds them.
    assert values(take(outbox, NEW, seen[-1].id)) == [3.0, 4.0, 5.0]
    accept(outbox, NEW, 6)
    assert values(take(outbox, NEW, seen[-1].id)) == [3.0, 4.0, 5.0, 6.0]


def test_a_topic_with_nothing_left_moves_at_once(outbox: Outbox) -> None:
    accept(outbox, OLD, 0)
    settled(outbox, take(outbox, OLD))
    accept(outbox, NEW, 1)
    assert values(take(outbox, NEW)) == [1.0]


def test_moved_back_before_it_could_leave_it_stays_in_order(outbox: Outbox) -> None:
    accept(outbox, OLD, 0)
    accept(outbox, NEW, 1)
    accept(outbox, OLD, 2)
    old = take(outbox, OLD)
    assert values(old) == [0.0]
    settled(outbox, old)
    assert values(take(outbox, OLD, old[-1].id)) == [1.0, 2.0]
    assert values(take(outbox, NEW)) == []


def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    accept(outbox, OLD, 0)
    accept(outbox, NEW, 1)
    outbox.close()
    outbox = opened(tmp_path)
    assert values(take(outbox, NEW)) == []
    accept(outbox, NEW, 2)
    assert values(take(outbox, NEW)) == []
    settled(outbox, take(outbox, OLD))
    assert values(take(outbox, NEW)) == [1.0, 2.0]
    state = outbox.status()
    assert next(topic for topic in state.topics if topic.topic == TOPIC).accepted == 3
    outbox.close()


def test_what_the_old_broker_refuses_for_ever_holds_up_nothing(outbox: Outbox) -> None:
    accept(outbox, OLD, 0)
    accept(outbox, NEW, 1)
    old = take(outbox, OLD)
    outbox.let_go(old[:-1])
    outbox.give_up(old[-1:], "refused")
    settled(outbox, take(outbox, OLD))
    assert values(take(outbox, NEW)) == [1.0]


def test_records_that_the_old_broker_refuses_go_along(outbox: Outbox) -> None:
    """Guarantee: an old broker that refuses all, what names the loss too, holds up nothing; the new one is told."""
    accept(outbox, OLD, 0)
    accept(outbox, NEW, 1)
    for _ in range(2):
        outbox.give_up(take(outbox, OLD), "refused")
    settled(outbox, [])
    assert take(outbox, OLD) == []
    moved = take(outbox, NEW)
    assert [type(decode_control(one.body)) for one in moved[:2]] == [EpochStart, Dropped]
    assert values(moved) == [1.0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_long_backlog_goes_on_piece_by_piece(tmp_path: Path, restarted: bool) -> None:
    """Guarantee: no transaction grows with what has waited, and the order holds from piece to piece."""
    outbox = opened(tmp_path)
    accept(outbox, OLD, 0)
    large = tails([0.5] * 40_000)
    for _ in range(9):
        outbox.accept(Batch("app", [Offer(Route(TOPIC, NEW, READING), large)]))
    settled(outbox, take(outbox, OLD))
    firsts: list[int] = []
    pieces, after = 0, -1
    while piece := of_topic(take(outbox, NEW, after)):
        after = piece[-1].id
        assert of_topic(take(outbox, NEW, after)) == [], "the next goes on when this is published"
        firsts += [frame.first for frame in piece]
        pieces += 1
        if pieces == 1:
            accept(outbox, NEW, 1)
            if restarted:
                outbox.close()
                outbox = opened(tmp_path)
                assert of_topic(take(outbox, NEW)) == piece
        settled(outbox, piece)
    assert pieces > 2
    assert firsts == sorted(set(firsts))
    state = next(topic for topic in outbox.status().topics if topic.topic == TOPIC)
    assert state.accepted == state.published == 9 * 40_000 + 2
    outbox.close()


def test_damage_to_what_waits_costs_one_frame(tmp_path: Path) -> None:
    """Guarantee: a row of which nothing is left of its body stops neither its topic nor the outbox."""
    outbox = opened(tmp_path)
    accept(outbox, OLD, 0)
    for number in (1, 2, 3):
        accept(outbox, NEW, number)
    outbox.close()
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as connection, connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'body BLOB NOT NULL', 'body BLOB') WHERE name = 'frames'")
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as connection, connection:
        (damaged,) = connection.execute("SELECT id FROM frames WHERE transport < 0 AND count > 0 ORDER BY id LIMIT 1").fetchone()
        connection.execute("UPDATE frames SET body = NULL WHERE id = ?", (damaged,))
    outbox = opened(tmp_path)
    settled(outbox, take(outbox, OLD))
    assert values(take(outbox, NEW)) == [2.0, 3.0]
    assert outbox.failed is None
    assert outbox.status().damaged == 1
    outbox.close()


def of_topic(frames: list[Held]) -> list[Held]:
    return [frame for frame in frames if frame.topic == TOPIC and frame.count]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_every_topic_leaves_whole_and_in_order(tmp_path: Path, seed: int) -> None:
    """Guarantee: across moves, restarts and slow publishers, the order of a topic is that of its acceptance."""
    chance = random.Random(seed)
    outbox = opened(tmp_path)
    published: dict[str, list[float]] = {TOPIC: [], OTHER: []}
    cursors = {OLD: -1, NEW: -1}
    accepted = 0

    def publish(transport: str, most: int) -> int:
        frames = outbox.hand_out(transport, after=cursors[transport], max_frames=most)
        for topic in published:
            published[topic] += values(frames, topic)
        outbox.let_go(frames)
        cursors[transport] = frames[-1].id if frames else cursors[transport]
        return len(frames)

    for _ in range(150):
        choice = chance.random()
        if choice < 0.55:
            for topic in published:
                accept(outbox, chance.choice((OLD, NEW)), accepted, topic)
            accepted += 1
        elif choice < 0.97:
            publish(chance.choice((OLD, NEW)), chance.randint(1, 6))
        else:
            outbox.close()
            outbox = opened(tmp_path)
            cursors = {OLD: -1, NEW: -1}
    accept(outbox, NEW, 0, "site.app.wait")
    while publish(OLD, 10) + publish(NEW, 10) or outbox.status().buffered_bytes:
        pass
    outbox.close()
    for topic, found in published.items():
        assert found == [float(number) for number in range(accepted)], topic
