"""What is accepted is there, once, in order, whoever else uses the outbox, and after the process is gone."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from gateway_agent.outbox import Batch, Choice, Offer, Outbox, OutboxError
from schemas.control import Dropped, decode_control, is_control
from schemas.frame import decode_frame
from schemas.registry import Schemas
from tests.gateway_agent.outbox.kit import GATEWAY, MAIN, batch, open_outbox, publish_all, route, tail, values


def test_what_was_accepted_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    first = open_outbox(tmp_path / "a")
    first.accept(batch([1.0, 2.0], state=b'{"at": 2}'))
    # As after SIGKILL: nothing was closed.
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = open_outbox(tmp_path / "b")
    assert values([held.body for held in publish_all(second)]) == [1.0, 2.0]
    assert second.state_of("app") == b'{"at": 2}'
    assert second.epoch > first.epoch
    first.close()
    second.close()


def test_only_one_process_may_have_an_outbox_open(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    with pytest.raises(OutboxError, match="another process has it open"):
        open_outbox(tmp_path)
    outbox.close()
    open_outbox(tmp_path).close()


def test_an_outbox_belongs_to_one_gateway(tmp_path: Path) -> None:
    open_outbox(tmp_path).close()
    with pytest.raises(OutboxError, match="belongs to the gateway 'gw-1'"):
        Outbox(tmp_path, gateway="other", transports=[MAIN])


def test_batches_of_many_threads_share_transactions_and_each_is_told_when_it_is_on_disk(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)

    def emit(number: int) -> None:
        for value in range(20):
            outbox.accept(Batch(f"app-{number}", [Offer(route(f"s.a.{number}"), [tail(float(value))])]))

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = publish_all(outbox)
    for number in range(8):
        assert values([held.body for held in sent if held.topic == f"s.a.{number}"]) == [float(value) for value in range(20)]
    outbox.close()


def test_a_frame_sent_twice_is_the_same_frame(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([float(value) for value in range(2500)]))
    once = [held.body for held in outbox.hand_out(MAIN, after=-1)]
    outbox.close()
    again = open_outbox(tmp_path)
    again.accept(batch([1.0]))
    twice = [held.body for held in again.hand_out(MAIN, after=-1)]
    assert twice[: len(once)] == once
    again.close()


def test_dropped_records_name_the_oldest_and_the_newest_that_were_given_up(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, max_bytes=2_000)
    for value in range(40):
        outbox.accept(batch([float(value)], route("s.a.old", when_full="drop_oldest")))
    for value in range(10):
        outbox.accept(batch([float(value)], route("s.a.new", when_full="drop_newest")))
    records = [decode_control(held.body) for held in publish_all(outbox) if is_control(held.body)]
    dropped = [record for record in records if isinstance(record, Dropped)]
    assert len(dropped) == 2, "neighbours are joined"
    assert dropped[0].first == 0
    assert dropped[1].last == 9
    assert {record.reason for record in dropped} == {"outbox-full"}
    outbox.close()


def test_the_oldest_of_a_topic_that_its_publisher_leaves_out_can_be_dropped(tmp_path: Path) -> None:
    """Guarantee: a topic that its broker does not take for days does not fill the outbox for those that may drop their oldest."""
    outbox = open_outbox(tmp_path, max_bytes=4_000)
    stuck, other = route("s.a.stuck", when_full="drop_oldest"), route("s.a.other", when_full="drop_oldest")
    outbox.accept(batch([0.0], stuck))
    (start, first) = outbox.hand_out(MAIN, after=-1)
    after, left_out = first.id, frozenset({first.stream})
    for value in range(1, 60):
        outbox.accept(batch([float(value)], stuck))
        outbox.accept(batch([float(value)], other))
        found = outbox.pick(MAIN, Choice(after, without=left_out))
        assert {held.topic for held in found.frames} <= {"s.a.other"}
        outbox.let_go(found.frames, wait=True)
        after = found.seen
    counts = {one.topic: one for one in outbox.status().topics}
    assert counts["s.a.other"].published == 59
    assert counts["s.a.stuck"].dropped > 0
    again = outbox.pick(MAIN, Choice(-1, only=first.stream, up_to=after)).frames
    # What its publisher had in hand is what it was.
    assert again[:2] == [start, first]
    outbox.close()


def test_a_frame_can_be_read_by_anyone(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, clock=lambda: 1_700_000_000_000_000)
    outbox.accept(batch([4.5]))
    frame = next(held for held in publish_all(outbox) if held.count)
    (event,) = decode_frame(frame.body, Schemas.with_shipped()).events
    assert (event["gateway"], event["epoch"], event["seq"], event["value"]) == (GATEWAY, outbox.epoch, 0, 4.5)
    assert event["gateway_time"].isoformat() == "2023-11-14T22:13:20+00:00"
    outbox.close()
