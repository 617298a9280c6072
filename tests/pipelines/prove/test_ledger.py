"""Rows of the ledger, against a gateway's life in plain sets of numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pipelines.prove.ledger import Row, rows_of
from pipelines.prove.reading import Reading, Shelf
from schemas.control import Dropped, EpochStart, encode_control
from schemas.ledger import TopicLedger, Waiting
from schemas.registry import Schemas
from tests.pipelines.batch.recorded import events
from tests.pipelines.fleet import READING

TOPIC, GATEWAY = "site.app.temperature", "gateway-0"
FATES = ("stored", "stored", "twice", "dead", "headless", "dropped", "lost")
Place = tuple[int, int]


@dataclass
class Life:
    """What a gateway has published, in order, and what must be said of it."""

    #: Bytes and, of sound records, the place up to which they tell.
    records: list[tuple[bytes, Place | None]] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    places: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))
    #: Places of the events of each record.
    held: list[set[Place]] = field(default_factory=list)


def frame(epoch: int, first: int, count: int) -> bytes:
    return events(TOPIC, GATEWAY, range(first, first + count), epoch=epoch).value


def live(epochs: Sequence[Sequence[tuple[int, str]]]) -> Life:
    life, before = Life(), None
    for number, frames in enumerate(epochs):
        epoch = 10 * (number + 1)
        start = EpochStart(GATEWAY, epoch, None if before is None else before[0], None if before is None else before[1] - 1)
        if before is not None and before[1] == 0:
            start = EpochStart(GATEWAY, epoch, before[0], None)
        life.records.append((encode_control(start), (epoch, 0)))
        life.held.append(set())
        seq = 0
        for count, fate in frames:
            mine = {(epoch, seq + place) for place in range(count)}
            add(life, epoch, seq, count, fate, mine)
            seq += count
        life.ends[epoch] = seq
        before = (epoch, seq)
    return life


def add(life: Life, epoch: int, seq: int, count: int, fate: str, mine: set[Place]) -> None:
    data, told = frame(epoch, seq, count), (epoch, seq + count)
    if fate in ("stored", "twice"):
        life.records += [(data, told)] * (1 + (fate == "twice"))
        life.held += [mine] * (1 + (fate == "twice"))
    elif fate in ("dead", "headless"):
        # The head can be read, or not; then what its neighbours leave open is its own.
        life.records.append((data[:-3] if fate == "dead" else data[:10] + b"\xff" * 12, None))
        life.held.append(mine)
    elif fate == "dropped":
        life.records.append((encode_control(Dropped(GATEWAY, epoch, seq, seq + count - 1, "outbox-full")), told))
        life.held.append(mine)
    life.places[fate] |= mine


def missing(row: Row, intervals: list[tuple[int, int]]) -> set[Place]:
    assert row.epoch is not None
    return {(row.epoch, number) for first, following in intervals for number in range(first, following)}


def shelf_of(life: Life, archived: int, read: int) -> Shelf:
    shelf = Shelf(Schemas([READING]))
    values = [data for data, _ in life.records]
    # In blocks of any size.
    stored = Reading(shelf, TOPIC, archived=True)
    for start in range(0, archived, 3):
        block = values[start : min(start + 3, archived)]
        stored.take([GATEWAY] * len(block), block)
    shelf.end_of_archive()
    behind = values[archived:read]
    Reading(shelf, TOPIC, archived=False).take([GATEWAY] * len(behind), behind)
    shelf.close()
    return shelf


FRAMES = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(FATES)), max_size=6)


@given(st.lists(FRAMES, min_size=1, max_size=3), st.integers(0, 8), st.integers(0, 4), st.booleans())
def test_every_event_is_in_one_column_and_what_is_lost_is_named(
    epochs: list[list[tuple[int, str]]], behind: int, unpublished: int, asked: bool
) -> None:
    # A dead letter without a head cannot be told from a frame that was lost beside it, so each has sound neighbours.
    epochs = [[one for found in frames for one in ((1, "stored"), found, (1, "stored"))] for frames in epochs]
    epochs[-1] += [(2, "stored")] * unpublished
    life = live(epochs)
    published = len(life.records) - unpublished
    archived = max(0, published - behind)
    # What has not left the gateway yet waits in its outbox; of the rest only the archive is read, or the broker too.
    shelf = shelf_of(life, archived, published if asked else archived)
    waiting = sorted(set().union(*life.held[published:]))
    epoch = max(life.ends)
    counters = TopicLedger(
        TOPIC,
        epoch,
        life.ends[epoch],
        sum(life.ends.values()),
        len(waiting),
        waiting=tuple(Waiting(number, seq, seq + 1) for number, seq in waiting),
    )
    rows = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), counters, settled=asked)
    known = [row for row in rows if row.epoch is not None]
    for row in rows:
        parts = (row.stored, row.in_broker, row.buffered, row.dead_lettered, *row.dropped.values(), row.before_archive)
        lost = sum(following - first for first, following in (*row.pending, *row.unexplained))
        assert row.accepted == sum(parts) + lost
    assert sum(row.accepted for row in rows) == sum(life.ends.values())
    assert sum(row.buffered for row in rows) == len(waiting)
    unexplained = set().union(*(missing(row, row.unexplained) for row in known))
    pending = set().union(*(missing(row, row.pending) for row in known))
    if asked:
        assert unexplained == life.places["lost"]
        assert not pending
        assert [row.accepted for row in rows] == list(life.ends.values())
        assert sum(row.dead_lettered for row in rows) == len(life.places["dead"] | life.places["headless"])
        assert sum(sum(row.dropped.values()) for row in rows) == len(life.places["dropped"])
    else:
        # What comes before the archive's end is lost, if it is; what comes after it cannot be told.
        reached = max((told for _, told in life.records[:archived] if told is not None), default=(-1, 0))
        assert unexplained == {place for place in life.places["lost"] if place < reached}
        assert all(place >= reached for place in pending)


def test_a_master_knows_only_numbers_and_the_last_that_are_missing_wait() -> None:
    life = live([[(5, "stored"), (5, "lost"), (5, "stored"), (5, "stored")]])
    shelf = shelf_of(life, 3, 3)
    counters = TopicLedger(TOPIC, 10, 20, 20, 5)
    (row,) = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), counters, settled=False)
    assert (row.stored, row.buffered, row.unexplained, row.pending) == (10, 5, [(5, 10)], [])


def test_a_repaired_outbox_knows_by_number_what_it_has_lost() -> None:
    life = live([[(5, "stored"), (5, "lost"), (5, "stored")]])
    for damaged, left in ((5, []), (4, [(5, 10)])):
        shelf = shelf_of(life, 3, 3)
        counters = TopicLedger(TOPIC, 10, 15, 15, 0, waiting=(), dropped={"damaged": damaged})
        (row,) = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), counters, settled=True)
        assert (row.stored, row.unexplained) == (10, left)
        assert row.dropped == ({} if left else {"damaged, by number": 5})


def test_what_the_log_held_before_the_archive_began_is_not_missing() -> None:
    life = live([[(5, "stored")] * 4])
    shelf = Shelf(Schemas([READING]))
    values = [data for data, _ in life.records[3:]]
    Reading(shelf, TOPIC, archived=True, begins_late=True).take([GATEWAY] * len(values), values)
    shelf.end_of_archive()
    counters = TopicLedger(TOPIC, 10, 20, 20, 0, waiting=())
    (row,) = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), counters, settled=True)
    assert (row.before_archive, row.stored, row.unexplained) == (10, 10, [])


def test_without_counters_the_last_epoch_is_open() -> None:
    life = live([[(5, "stored"), (5, "lost")], [(5, "stored")]])
    shelf = shelf_of(life, len(life.records), len(life.records))
    before, last = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), None, settled=False)
    # The epoch after it says where the first one ended.
    assert (before.accepted, before.open_ended, before.unexplained) == (10, False, [(5, 10)])
    assert (last.accepted, last.open_ended, last.unexplained) == (5, True, [])


def test_an_end_that_is_still_on_its_way_follows_from_the_sum() -> None:
    """The record that says where an epoch ended is not archived yet; the outbox has counted all the same."""
    life = live([[(5, "stored"), (5, "stored")], [(5, "stored")]])
    shelf = shelf_of(life, 2, 2)
    counters = TopicLedger(TOPIC, 20, 5, 15, 0, waiting=())
    before, last = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), counters, settled=False)
    assert (before.accepted, before.stored, before.pending, before.open_ended) == (10, 5, [(5, 10)], False)
    assert (last.accepted, last.pending) == (5, [(0, 5)])


def test_records_of_many_gateways_lie_mixed() -> None:
    shelf = Shelf(Schemas([READING]))
    names = [f"gateway-{number % 3}" for number in range(30)]
    values = [events(TOPIC, name, [number // 3]).value for number, name in enumerate(names)]
    Reading(shelf, TOPIC, archived=True).take(names, values)
    assert {key: list(book.epoch(1).stored) for key, book in shelf.books.items()} == {
        (TOPIC, name): [(0, 10)] for name in set(names)
    }


def test_the_head_of_a_dead_letter_is_believed_only_within_what_is_known() -> None:
    """At the end of a log no neighbour says what a dead letter held; its numbers may be damaged like the rest."""
    for epoch, first, counted in ((10, 5, True), (10, 1 << 20, False), (77, 5, False)):
        life = live([[(5, "stored")]])
        life.records.append((frame(epoch, first, 5)[:-3], None))
        shelf = shelf_of(life, len(life.records), len(life.records))
        counters = TopicLedger(TOPIC, 10, 10, 10, 0, waiting=())
        (row,) = rows_of(TOPIC, GATEWAY, shelf.book(TOPIC, GATEWAY), counters, settled=True)
        assert (row.accepted, row.dead_lettered, row.unexplained) == (10, 5 * counted, [] if counted else [(5, 10)])
