"""The ledger: every event that a gateway has accepted in one of the columns, each in one only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipelines.prove.books import Book, Epoch
from pipelines.prove.rest import Rest, joined, length
from schemas.control import Control
from schemas.ledger import TopicLedger
from transforms.intervals import Interval


@dataclass(slots=True)
class Row:
    """An epoch of a gateway in a topic, in events: ``accepted`` is the sum of all up to ``unexplained``.

    The epoch is None for events that the counters count and of which nothing tells the epoch.
    """

    topic: str
    gateway: str
    epoch: int | None
    accepted: int
    #: Nobody has said how many events it had: it may have accepted more.
    open_ended: bool = False
    stored: int = 0
    in_broker: int = 0
    buffered: int = 0
    dead_lettered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    #: Older than what the archive begins with, as the log was not archived from its beginning.
    before_archive: int = 0
    #: Published, and not archived yet: the log behind the archive was not asked.
    pending: list[Interval] = field(default_factory=list)
    unexplained: list[Interval] = field(default_factory=list)
    #: Events beyond these that are stored once more.
    duplicates: int = 0


class _End(NamedTuple):
    """How many events an epoch has had, at least or, if ``known``, exactly."""

    number: int
    known: bool


def rows_of(topic: str, gateway: str, book: Book, counters: TopicLedger | None, *, settled: bool) -> list[Row]:
    """Rows of a topic of a gateway. ``settled``: all that it has published was looked for; what is missing is lost."""
    if counters is not None:
        records: tuple[Control, ...] = (*counters.started, *counters.given_up)
        for record in records:
            book.control(record)
        book.epoch(counters.epoch)
        for run in counters.waiting or ():
            book.epoch(run.epoch)
    waiting = _waiting(counters)
    ends = {number: _end(number, epoch, waiting.get(number, ()), counters) for number, epoch in book.epochs.items()}
    nameless = _balance(book, ends, counters)
    rows: list[Row] = []
    rests: list[Rest] = []
    for number, end in sorted(ends.items()):
        row, rest = Row(topic, gateway, number, end.number, open_ended=not end.known), Rest(end.number)
        _share(row, rest, book, book.epochs[number], waiting.get(number, ()))
        rows.append(row)
        rests.append(rest)
    if counters is not None and counters.waiting is None:
        left = counters.buffered
        for row, rest in zip(reversed(rows), reversed(rests), strict=True):
            row.buffered = rest.take_last(left)
            left -= row.buffered
    _dropped_by_number(book, rows, rests, counters)
    for row, rest in zip(rows, rests, strict=True):
        assert row.epoch is not None, "every epoch here has a number"
        archived = (
            0 if row.epoch > book.archived.epoch else book.archived.seq if row.epoch == book.archived.epoch else row.accepted
        )
        row.unexplained, row.pending = (rest.intervals, []) if settled else rest.split(archived)
    if nameless:
        row = Row(topic, gateway, None, nameless)
        row.unexplained, row.pending = ([(0, nameless)], []) if settled else ([], [(0, nameless)])
        rows.append(row)
    return rows


def _waiting(counters: TopicLedger | None) -> dict[int, list[Interval]]:
    found: dict[int, list[Interval]] = {}
    for run in (counters.waiting if counters is not None else None) or ():
        found.setdefault(run.epoch, []).append((run.first, run.next))
    return found


def _end(number: int, epoch: Epoch, waiting: Sequence[Interval], counters: TopicLedger | None) -> _End:
    seen = [found.next for found in (epoch.stored, epoch.in_broker) if len(found)]
    # The heads of dead letters are not to be believed beyond what is known otherwise.
    seen += [following for _, following in waiting]
    seen += [record.last + 1 for record in epoch.dropped]
    least = max(seen, default=0)
    if epoch.end is not None:
        return _End(max(least, epoch.end), known=True)
    if counters is not None and counters.epoch == number:
        return _End(max(least, counters.next_seq), known=True)
    return _End(least, known=False)


def _chain(book: Book, ends: Mapping[int, _End], counters: TopicLedger) -> list[int]:
    """Epochs of the outbox whose counters these are; none where the log is not known from its beginning."""
    first = max((number for number in book.fresh if number <= counters.epoch), default=None)
    if first is None and book.begins is not None:
        return []
    return [number for number in sorted(ends) if (first or 0) <= number <= counters.epoch]


def _balance(book: Book, ends: dict[int, _End], counters: TopicLedger | None) -> int:
    """Events that the outbox has counted beyond those of all epochs known.

    Where the end of one epoch only is unknown, the sum tells it: the record that says it is still on its way.
    """
    chain = _chain(book, ends, counters) if counters is not None else []
    if counters is None or not chain:
        return 0
    # What was archived since the outbox was read is not in its counters.
    total = sum(counters.next_seq if number == counters.epoch else ends[number].number for number in chain)
    unknown = [number for number in chain if not ends[number].known]
    if len(unknown) == 1 and total <= counters.accepted:
        ends[unknown[0]] = _End(ends[unknown[0]].number + counters.accepted - total, known=True)
        return 0
    return max(0, counters.accepted - total)


def _share(row: Row, rest: Rest, book: Book, epoch: Epoch, waiting: Sequence[Interval]) -> None:
    """Where an event is whole comes first; then what became of it otherwise."""
    row.stored = rest.take(epoch.stored)
    row.duplicates = epoch.duplicates
    row.in_broker = rest.take(epoch.in_broker)
    row.buffered = rest.take(joined(waiting))
    row.dead_lettered = rest.take(joined(epoch.dead))
    for reason in sorted({record.reason for record in epoch.dropped}):
        given_up = joined((one.first, one.last + 1) for one in epoch.dropped if one.reason == reason)
        if number := rest.take(given_up):
            row.dropped[reason] = number
    if book.begins is not None and row.epoch is not None and row.epoch <= book.begins.epoch:
        row.before_archive = rest.take([(0, book.begins.seq if row.epoch == book.begins.epoch else row.accepted)])


def _dropped_by_number(book: Book, rows: Sequence[Row], rests: Sequence[Rest], counters: TopicLedger | None) -> None:
    """A repaired outbox knows how many events it has lost, not which: those that are missing, if they are no more."""
    if counters is None or not counters.dropped:
        return
    chain = set(_chain(book, dict.fromkeys(book.epochs, _End(0, known=False)), counters))
    nameless: dict[str, int] = {}
    for reason, number in counters.dropped.items():
        named = sum(
            length(joined((one.first, one.last + 1) for one in book.epochs[epoch].dropped if one.reason == reason))
            for epoch in chain
        )
        if number > named:
            nameless[reason] = number - named
    mine = [(row, rest) for row, rest in zip(rows, rests, strict=True) if row.epoch in chain]
    missing = sum(len(rest) for _, rest in mine)
    if not 0 < missing <= sum(nameless.values()):
        return
    label = f"{' or '.join(sorted(nameless))}, by number"
    for row, rest in mine:
        if number := rest.take_last(len(rest)):
            row.dropped[label] = number
