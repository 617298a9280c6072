"""What is left of an epoch's events while one explanation after the other takes its share."""

from __future__ import annotations

from collections.abc import Iterable

from transforms.intervals import Interval, IntervalSet


class Rest:
    """Events 0 to ``end`` (exclusive), less what was taken. Everything is taken at most once, so shares add up."""

    def __init__(self, end: int) -> None:
        self.intervals: list[Interval] = [(0, end)] if end > 0 else []

    def __len__(self) -> int:
        return length(self.intervals)

    def take(self, wanted: Iterable[Interval]) -> int:
        """Take what is left of ``wanted``, which is sorted and disjoint; returns how many events that were."""
        kept: list[Interval] = []
        taken = 0
        others = iter(wanted)
        other = next(others, None)
        for first, following in self.intervals:
            position = first
            while other is not None and other[0] < following:
                start, end = max(position, other[0]), min(following, other[1])
                if start < end:
                    if position < start:
                        kept.append((position, start))
                    taken += end - start
                    position = end
                if other[1] > following:
                    break  # it goes on in what comes next
                other = next(others, None)
            if position < following:
                kept.append((position, following))
        self.intervals = kept
        return taken

    def take_last(self, number: int) -> int:
        """Take the last ``number`` events, or all there are; returns how many."""
        taken = 0
        while self.intervals and taken < number:
            first, following = self.intervals.pop()
            part = min(number - taken, following - first)
            taken += part
            if part < following - first:
                self.intervals.append((first, following - part))
        return taken

    def split(self, place: int) -> tuple[list[Interval], list[Interval]]:
        """What is left before ``place``, and from there on."""
        before = [(first, min(following, place)) for first, following in self.intervals if first < place]
        return before, [(max(first, place), following) for first, following in self.intervals if following > place]


def length(intervals: Iterable[Interval]) -> int:
    return sum(following - first for first, following in intervals)


def joined(intervals: Iterable[Interval]) -> IntervalSet:
    """Intervals in any order, which may overlap, as a set."""
    found = IntervalSet()
    for first, following in intervals:
        if first < following:
            found.add(first, following)
    return found
