"""Partials in a state bag, kept few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

#: Partials of a key that are kept apart before they are merged.
MOST_PARTIALS: Final = 32


class FewPartials:
    """Counts what a step has put into the bags of its keys. What another instance has put is merged when it is read."""

    def __init__(self) -> None:
        self._put: dict[str, int] = {}

    def put(self, key: str, bag: Any, part: bytes, merged: Callable[[Sequence[bytes]], Iterable[bytes]]) -> None:
        """Put ``part`` into the bag of ``key``; when they are many, what ``merged`` makes of all takes their place."""
        bag.add(part)
        number = self._put.get(key, 0) + 1
        if number >= MOST_PARTIALS:
            parts = list(bag.read())
            bag.clear()
            for one in merged(parts):
                bag.add(one)
            number = 0
        self._put[key] = number

    def forget(self, key: str) -> None:
        self._put.pop(key, None)
