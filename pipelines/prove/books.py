"""What the records of logs tell of each gateway's topics: which events they hold, and what is said of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.control import Control, Dropped, EpochStart
from schemas.errors import FrameError
from schemas.frame import MAX_EVENTS, FrameIdentity, peek
from transforms.intervals import Interval, IntervalSet


class Place(NamedTuple):
    """Between two events of a topic; places are in the order in which a gateway publishes."""

    epoch: int
    seq: int


NOWHERE = Place(-1, 0)


@dataclass(slots=True)
class Epoch:
    """Events of an epoch, by where they were found."""

    stored: IntervalSet = field(default_factory=IntervalSet)
    in_broker: IntervalSet = field(default_factory=IntervalSet)
    dead: list[Interval] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    #: Events that are stored once more than once.
    duplicates: int = 0
    #: How many it had in all, where the epoch after it says so.
    end: int | None = None


class _Dead(NamedTuple):
    """A record that could not be decoded: what came before it, and what its head says, as far as that can be read."""

    before: Place
    head: FrameIdentity | None


@dataclass(slots=True)
class Book:
    """A topic of a gateway."""

    epochs: dict[int, Epoch] = field(default_factory=dict)
    #: Epochs that were the first of an outbox.
    fresh: set[int] = field(default_factory=set)
    #: Where the archive begins, when that is not where the log began.
    begins: Place | None = None
    #: How far the archive has come.
    archived: Place = NOWHERE
    #: How far has been read.
    position: Place = NOWHERE
    _dead: list[_Dead] = field(default_factory=list)

    def epoch(self, number: int) -> Epoch:
        return self.epochs.setdefault(number, Epoch())

    def control(self, record: Control) -> None:
        """Take in what a gateway says of its events, from wherever."""
        epoch = self.epoch(record.epoch)
        if isinstance(record, Dropped):
            if record not in epoch.dropped:
                epoch.dropped.append(record)
            return
        if record.previous_epoch is None:
            self.fresh.add(record.epoch)
        else:
            self.epoch(record.previous_epoch).end = 0 if record.previous_last is None else record.previous_last + 1

    def read_control(self, record: Control) -> None:
        """`control`, of a record that stands at this place in the log."""
        self.control(record)
        if isinstance(record, EpochStart):
            before = record.previous_epoch
            if before is not None and record.previous_last is not None and before == self.position.epoch:
                self.advance(before, record.previous_last + 1, record.previous_last + 1)
            self.advance(record.epoch, 0, 0)
        else:
            self.advance(record.epoch, record.first, record.last + 1)

    def advance(self, epoch: int, first: int, following: int) -> None:
        """Events ``first`` to ``following`` (exclusive) come next in the log. What is between them and dead letters is dead."""
        if Place(epoch, following) <= self.position:
            return
        for one in self._dead:
            start = one.before.seq if one.before.epoch == epoch else 0
            if start < first and not (one.before == NOWHERE and self.begins is not None):
                self.epoch(epoch).dead.append(_within(one.head, epoch, (start, first)))
            elif one.head is not None and one.before == NOWHERE:
                self._by_head(one)
        self._dead.clear()
        self.position = Place(epoch, following)

    def dead_letter(self, head: FrameIdentity | None) -> None:
        self._dead.append(_Dead(self.position, head))

    def close(self) -> None:
        """The end of a log: what dead letters hold there, only their heads can tell."""
        for one in self._dead:
            self._by_head(one)
        self._dead.clear()

    def _by_head(self, one: _Dead) -> None:
        head = one.head
        if head is None or head.epoch not in self.epochs or head.count > MAX_EVENTS:
            return
        if one.before <= Place(head.epoch, head.first):
            self.epochs[head.epoch].dead.append((head.first, head.next))


def head_of(frame: bytes) -> FrameIdentity | None:
    """What the head of a damaged frame says, if it can be read; it may be damaged too."""
    try:
        return peek(frame)
    except FrameError:
        return None


def _within(head: FrameIdentity | None, epoch: int, hole: Interval) -> Interval:
    """The part of a hole that a dead letter says is its own, if it does; else all of it."""
    if head is not None and head.epoch == epoch and hole[0] <= head.first and head.next <= hole[1]:
        return head.first, head.next
    return hole
