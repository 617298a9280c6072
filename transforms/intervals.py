"""Sets of integers as sorted, disjoint, half-open intervals ``[first, next)``."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

Interval = tuple[int, int]


class IntervalSet:
    """Which sequence numbers have been seen. Usually one interval that grows at its end."""

    __slots__ = ("_firsts", "_nexts")

    def __init__(self, intervals: list[Interval] | None = None) -> None:
        self._firsts = [first for first, _ in intervals or []]
        self._nexts = [following for _, following in intervals or []]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(zip(self._firsts, self._nexts, strict=True))

    def __len__(self) -> int:
        return len(self._firsts)

    @property
    def next(self) -> int:
        """One more than the greatest."""
        return self._nexts[-1]

    def add(self, first: int, following: int) -> list[Interval]:
        """Add ``[first, following)``; returns the parts of it that were not there."""
        firsts, nexts = self._firsts, self._nexts
        if firsts and first >= nexts[-1]:
            if first == nexts[-1]:
                nexts[-1] = following
            else:
                firsts.append(first)
                nexts.append(following)
            return [(first, following)]
        # Those that touch or overlap it: from the first that ends at or after its start.
        low = bisect_left(nexts, first)
        high = bisect_right(firsts, following)
        new: list[Interval] = []
        position = first
        for place in range(low, high):
            if firsts[place] > position:
                new.append((position, min(firsts[place], following)))
            position = max(position, nexts[place])
        if position < following:
            new.append((position, following))
        if low < high:
            first, following = min(first, firsts[low]), max(following, nexts[high - 1])
        firsts[low:high] = [first]
        nexts[low:high] = [following]
        return new

    def holes(self) -> list[Interval]:
        """What is missing between the least and the greatest."""
        return list(zip(self._nexts[:-1], self._firsts[1:], strict=True))
