"""Which events there are, which are there twice, and which are missing: by identity, from intervals alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from storage.events.manifest import Dropped, Identity, Seen, Started
from transforms.intervals import Interval, IntervalSet

MISSING: Final = "missing"


class Range(NamedTuple):
    """Events ``first`` to ``last``, inclusive, of an identity. ``why``: where, or for what reason."""

    identity: Identity
    first: int
    last: int
    why: str

    @property
    def number(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        topic, gateway, epoch = self.identity
        return f"{topic} {gateway} epoch {epoch}: {self.first} to {self.last} ({self.number}), {self.why}"


class Account:
    """Intervals are added hour by hour; they join, so little is kept."""

    def __init__(self) -> None:
        self._seen: dict[Identity, IntervalSet] = defaultdict(IntervalSet)
        self.duplicates: list[Range] = []

    def add(self, found: Iterable[Seen], *, where: str, twice: bool = True) -> None:
        """Take in events; what was there before is a duplicate, unless ``twice`` is False."""
        for seen in found:
            intervals = self._seen[seen.identity]
            for first, following in seen.intervals:
                new = intervals.add(first, following)
                if twice:
                    old = _without((first, following), new)
                    self.duplicates += [Range(seen.identity, start, end - 1, f"again in {where}") for start, end in old]

    def identities(self) -> list[Seen]:
        return [Seen(*identity, list(intervals)) for identity, intervals in sorted(self._seen.items())]

    def missing(self, started: Iterable[Started], dropped: Iterable[Dropped]) -> Iterator[Range]:
        """What is not there between the first and the last event of each epoch, as far as they are known, with the reason."""
        reasons: dict[Identity, list[Dropped]] = defaultdict(list)
        for drop in dropped:
            reasons[Identity(drop.topic, drop.gateway, drop.epoch)].append(drop)
        bounds: dict[Identity, Interval] = {
            identity: (next(iter(intervals))[0], intervals.next) for identity, intervals in self._seen.items() if len(intervals)
        }
        for start in started:
            identity = Identity(start.topic, start.gateway, start.epoch)
            if identity in bounds:
                bounds[identity] = (0, bounds[identity][1])
            if start.previous_epoch is not None and start.previous_last is not None:
                before = Identity(start.topic, start.gateway, start.previous_epoch)
                first, following = bounds.get(before, (0, 0))
                bounds[before] = (first, max(following, start.previous_last + 1))
        for identity, bound in sorted(bounds.items()):
            for hole in _without(bound, self._seen.get(identity, ())):
                yield from _explained(identity, hole, reasons[identity])

    def without(self, other: Account) -> Iterator[Range]:
        """What is here and not in ``other``."""
        for identity, intervals in sorted(self._seen.items()):
            for interval in intervals:
                for first, following in _without(interval, other._seen.get(identity, ())):
                    yield Range(identity, first, following - 1, "")


def _explained(identity: Identity, hole: Interval, dropped: list[Dropped]) -> Iterator[Range]:
    left = [hole]
    for drop in dropped:
        kept: list[Interval] = []
        for first, following in left:
            start, end = max(first, drop.first), min(following, drop.last + 1)
            if start >= end:
                kept.append((first, following))
                continue
            yield Range(identity, start, end - 1, drop.reason)
            kept += [part for part in ((first, start), (end, following)) if part[0] < part[1]]
        left = kept
    yield from (Range(identity, first, following - 1, MISSING) for first, following in left)


def _without(interval: Interval, others: Iterable[Interval]) -> list[Interval]:
    """What is left of ``interval`` without ``others``, which are sorted."""
    position, following = interval
    left: list[Interval] = []
    for start, end in others:
        if end <= position or start >= following:
            continue
        if start > position:
            left.append((position, start))
        position = max(position, end)
    if position < following:
        left.append((position, following))
    return left
