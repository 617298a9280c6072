"""Duplicates and gaps, exactly: the same as a plain set of what was seen says."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import Dropped, EpochStart
from transforms.identity import REPORTED_BEFORE, Frames, Gap, PartitionIdentity
from transforms.intervals import IntervalSet

ranges = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
frame = st.tuples(st.sampled_from(["a", "b", "ü"]), st.integers(1, 2), ranges)


def frames(found: list[Any]) -> Frames:
    return Frames(
        [gateway for gateway, _, _ in found],
        np.array([epoch for _, epoch, _ in found], np.int64),
        np.array([first for _, _, (first, _) in found], np.int64),
        np.array([following - first for _, _, (first, following) in found], np.int64),
    )


def fresh(identity: PartitionIdentity, found: list[Any], newest: int = 0) -> list[tuple[str, int, int]]:
    """Identities of the events that are called new."""
    new, partly, _ = identity.admit(frames(found), newest=newest)
    taken: list[tuple[str, int, int]] = []
    parts: dict[int, list[tuple[int, int]]] = {}
    for member, start, end in partly:
        parts.setdefault(member, []).append((start, end))
    for place, (gateway, epoch, (first, following)) in enumerate(found):
        whole = [(0, following - first)] if new[place] == following - first else parts.get(place, [])
        assert sum(end - start for start, end in whole) == new[place]
        taken += [(gateway, epoch, first + at) for start, end in whole for at in range(start, end)]
    return taken


@given(st.lists(ranges, max_size=12))
def test_interval_sets_are_sets(found: list[tuple[int, int]]) -> None:
    intervals, plain = IntervalSet(), set()
    for first, following in found:
        added = {number for start, end in intervals.add(first, following) for number in range(start, end)}
        assert added == set(range(first, following)) - plain
        plain |= added
    assert {number for start, end in intervals for number in range(start, end)} == plain
    holes = {number for start, end in intervals.holes() for number in range(start, end)}
    assert holes == (set(range(min(plain), max(plain))) - plain if plain else set())


@given(st.lists(st.lists(frame, max_size=8), max_size=5))
def test_every_event_is_new_exactly_once(batches: list[list[Any]]) -> None:
    identity, seen = PartitionIdentity(), set()
    for batch in batches:
        taken = fresh(identity, batch)
        assert len(taken) == len(set(taken))
        assert not seen & set(taken)
        seen |= set(taken)
        assert seen >= {(gateway, epoch, at) for gateway, epoch, (first, end) in batch for at in range(first, end)}
        identity = PartitionIdentity.unpack(identity.pack())


@given(st.lists(frame, min_size=1, max_size=15), st.lists(frame, max_size=15))
def test_open_gaps_are_exactly_what_is_missing_between_first_and_last(early: list[Any], later: list[Any]) -> None:
    identity = PartitionIdentity()
    missing: dict[tuple[str, int], set[int]] = {}
    for number, batch in enumerate((early, later)):
        _, _, gaps = identity.admit(frames(batch), newest=number)
        gaps += identity.overdue(number)
        for gap in gaps:
            at = missing.setdefault((gap.gateway, gap.epoch), set())
            touched = set(range(gap.first, gap.last + 1))
            missing[gap.gateway, gap.epoch] = at | touched if gap.state == "open" else at - touched
    for key in {(gateway, epoch) for gateway, epoch, _ in early + later}:
        mine = [found for gateway, epoch, found in early + later if (gateway, epoch) == key]
        seen = {at for first, following in mine for at in range(first, following)}
        # What came before the first frame that was ever read is not known to be missing.
        order = [found for gateway, epoch, found in early if (gateway, epoch) == key] or mine
        begin = min(first for first, _ in order)
        expected = set(range(begin, max(seen))) - seen
        assert {at for at in missing.get(key, set()) if at >= begin} == expected


@given(st.lists(st.lists(frame, min_size=1, max_size=6), min_size=1, max_size=6), st.data())
def test_gaps_written_before_a_restart_are_closed_by_what_is_read_again(batches: list[list[Any]], data: st.DataObject) -> None:
    """Guarantee: whatever was written, and however old the state a job starts from, the table ends up as what is missing."""
    killed = data.draw(st.integers(0, len(batches)))
    kept = data.draw(st.integers(0, killed))
    table: dict[tuple[str, int, int], str] = {}
    reported: list[tuple[str, int, int, int]] = []

    def write(gaps: list[Gap]) -> None:
        # As a store does: of every event what was said last.
        for gap in gaps:
            table.update({(gap.gateway, gap.epoch, seq): gap.state for seq in range(gap.first, gap.last + 1)})
            if gap.state == "open":
                reported.append((gap.gateway, gap.epoch, gap.first, gap.last))

    identity, snapshot, begun = PartitionIdentity(), PartitionIdentity().pack(), {}
    for number, batch in enumerate(batches[:killed]):
        for gateway, epoch, (first, _) in sorted(batch):
            begun.setdefault((gateway, epoch), first)
        write(identity.admit(frames(batch), newest=number)[2])
        if data.draw(st.booleans()):
            write(identity.settle())
        if number + 1 == kept:
            snapshot = identity.pack()
    identity = PartitionIdentity.unpack(snapshot)
    identity.begin_again()
    for gap in reported:
        identity.remember(*gap)
    identity = PartitionIdentity.unpack(identity.pack())
    again = batches[kept:]
    if data.draw(st.booleans()):
        again = [[found for batch in again for found in batch]]
    for number, batch in enumerate(again, kept):
        for gateway, epoch, (first, _) in sorted(batch):
            begun.setdefault((gateway, epoch), first)
        write(identity.admit(frames(batch), newest=number)[2])
        identity.forget(0)  # nothing that was read is so old
        if data.draw(st.booleans()):
            write(identity.settle())
    write(identity.settle())
    for key, begin in begun.items():
        seen = {
            at
            for batch in batches
            for gateway, epoch, (first, following) in batch
            if (gateway, epoch) == key
            for at in range(first, following)
        }
        opened = {seq for (*of, seq), state in table.items() if tuple(of) == key and state == "open"}
        # What came before the first frame that was ever read is not known to be missing.
        assert {at for at in opened if at >= begin} == set(range(begin, max(seen))) - seen
        assert not opened & seen


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.data())
def test_gaps_are_exactly_what_is_missing_of_all_epochs_in_whatever_order(sizes: list[int], data: st.DataObject) -> None:
    """Guarantee: heads, middles and tails of epochs, and whole ones, are missed by number, and no more once they come."""
    last = len(sizes)
    starts = [EpochStart("a", epoch, epoch - 1, sizes[epoch - 2] - 1) for epoch in range(2, last + 1)]
    events = [("a", epoch, (seq, seq + 1)) for epoch, size in enumerate(sizes, 1) for seq in range(size)]
    lost = data.draw(st.sets(st.sampled_from(events), max_size=len(events) // 2))
    coming: list[Any] = data.draw(st.permutations([*starts, *(event for event in events if event not in lost)]))
    identity, table = PartitionIdentity(), {}

    def write(gaps: list[Gap]) -> None:
        for gap in gaps:
            table.update({(gap.epoch, seq): gap.state for seq in range(gap.first, gap.last + 1)})

    write(identity.control(EpochStart("a", 1, None, None), newest=0))
    while coming:
        taken = data.draw(st.integers(1, len(coming)))
        batch, coming = coming[:taken], coming[taken:]
        for record in batch:
            if isinstance(record, EpochStart):
                write(identity.control(record, newest=0))
        write(identity.admit(frames([found for found in batch if not isinstance(found, EpochStart)]), newest=0)[2])
        identity.forget(0)  # nothing that was read is so old
        if data.draw(st.booleans()):
            write(identity.settle())
        identity = PartitionIdentity.unpack(identity.pack())
    write(identity.settle())
    newest = max((event[2][0] for event in events if event not in lost and event[1] == last), default=-1)
    missing = {(epoch, seq) for _, epoch, (seq, _) in lost if epoch < last or seq < newest}
    assert {at for at, state in table.items() if state == "open"} == missing


def test_a_hole_becomes_a_gap_only_when_it_is_older_than_the_disorder_allowed() -> None:
    identity = PartitionIdentity()
    assert fresh(identity, [("a", 1, (0, 5)), ("a", 1, (8, 9))], newest=100)
    assert identity.overdue(99) == []
    assert identity.overdue(100) == [Gap("a", 1, 5, 7, "open")]
    assert identity.overdue(1000) == []


def test_once_a_partition_is_quiet_its_holes_are_gaps_whatever_their_time() -> None:
    identity = PartitionIdentity()
    assert fresh(identity, [("a", 1, (0, 5)), ("a", 1, (8, 9))], newest=2**60)
    assert identity.settle() == [Gap("a", 1, 5, 7, "open")]
    assert identity.settle() == []


def test_a_frame_that_comes_late_splits_its_gap_and_the_next_closes_it() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5)), ("a", 1, (15, 20))]), newest=1)
    assert identity.overdue(1) == [Gap("a", 1, 5, 14, "open")]
    _, _, gaps = identity.admit(frames([("a", 1, (8, 10))]), newest=2)
    assert [(gap.first, gap.last, gap.state) for gap in gaps] == [(5, 14, "closed"), (5, 7, "open"), (10, 14, "open")]
    _, _, gaps = identity.admit(frames([("a", 1, (5, 8)), ("a", 1, (10, 15))]), newest=3)
    assert [(gap.first, gap.last, gap.state) for gap in gaps] == [(5, 7, "closed"), (10, 14, "closed")]


def test_the_tail_of_an_epoch_is_missed_when_the_next_one_says_so() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5))]), newest=1)
    assert identity.control(EpochStart("a", 2, 1, 9), newest=2) == []
    assert identity.overdue(2) == [Gap("a", 1, 5, 9, "open")]
    identity.admit(frames([("a", 2, (3, 4))]), newest=3)
    assert identity.overdue(3) == [Gap("a", 2, 0, 2, "open")]


def test_an_epoch_lost_whole_is_missed_but_not_by_who_began_in_the_middle() -> None:
    middle = PartitionIdentity()
    middle.control(EpochStart("a", 2, 1, 9), newest=1)
    assert middle.overdue(1) == []
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5))]), newest=1)
    identity.control(EpochStart("a", 3, 2, 9), newest=2)
    assert identity.overdue(2) == [Gap("a", 2, 0, 9, "open")]


def test_what_a_gateway_gave_up_is_declared_with_its_reason() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5)), ("a", 1, (10, 12))]), newest=1)
    assert identity.control(Dropped("a", 1, 5, 7, "outbox-full"), newest=1) == [Gap("a", 1, 5, 7, "declared", "outbox-full")]
    assert identity.overdue(5) == [Gap("a", 1, 8, 9, "open")]
    found = identity.control(Dropped("a", 1, 8, 9, "damaged"), newest=1)
    assert [(gap.first, gap.last, gap.state) for gap in found] == [(8, 9, "closed"), (8, 9, "declared")]
    assert identity.control(Dropped("a", 1, 8, 9, "damaged"), newest=1) == []


def test_epochs_long_past_are_forgotten() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5))]), newest=10)
    identity.admit(frames([("a", 2, (0, 5)), ("b", 1, (0, 5))]), newest=1000)
    identity.forget(500)
    assert fresh(identity, [("a", 1, (0, 5))]) != []
    assert fresh(identity, [("b", 1, (0, 5))]) == []


def test_an_epoch_lost_whole_is_not_forgotten_before_its_time() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5))]), newest=1_000)
    identity.control(EpochStart("a", 3, 2, 9), newest=1_000)
    assert identity.settle() == [Gap("a", 2, 0, 9, "open")]
    identity.forget(500)
    _, _, gaps = identity.admit(frames([("a", 2, (0, 10))]), newest=1_000)
    assert [(gap.first, gap.last, gap.state) for gap in gaps] == [(0, 9, "closed")]


def test_the_tail_of_a_forgotten_epoch_is_not_missed_when_its_end_is_told_again() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5))]), newest=10)
    identity.admit(frames([("a", 2, (0, 5))]), newest=20)
    identity.admit(frames([("a", 3, (0, 5))]), newest=1_000)
    identity.forget(500)
    identity = PartitionIdentity.unpack(identity.pack())
    assert identity.control(EpochStart("a", 3, 2, 4), newest=1_000) == []
    assert identity.settle() == []
    assert not identity.remember("a", 2, 1, 1)


def test_a_gap_of_an_earlier_life_is_closed_once_and_as_such() -> None:
    identity = PartitionIdentity()
    identity.admit(frames([("a", 1, (0, 5)), ("a", 1, (9, 10))]), newest=1)
    assert identity.settle() == [Gap("a", 1, 5, 8, "open")]
    identity.begin_again()
    assert identity.remember("a", 1, 5, 8)
    _, _, gaps = identity.admit(frames([("a", 1, (5, 9))]), newest=2)
    assert gaps == [Gap("a", 1, 5, 8, "closed", REPORTED_BEFORE)]


def test_an_epoch_that_is_only_remembered_says_nothing_of_what_is_missing_in_it() -> None:
    identity = PartitionIdentity()
    identity.remember("a", 1, 3, 4)
    assert identity.control(EpochStart("a", 2, 1, 1999), newest=1) == []
    assert identity.settle() == []
