"""Topics of which a server has turned a message down, as publishers of one broker tell each other."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from brokers.contract import Message


class Doubts:
    """A topic is doubtful from a message that was turned down until one is taken.

    So that nothing of it overtakes, it begins with a single message; so that it holds up nobody, it goes behind all others.
    Of several, that which was tried last comes last. Any thread may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, None] = {}

    def split(self, messages: Sequence[Message], wanted: Sequence[int]) -> tuple[Sequence[int], dict[str, list[int]]]:
        """``wanted``, positions in ``messages``: those of other topics, and those of each doubtful one, in the order to try."""
        with self._lock:
            if not self._topics:
                return wanted, {}
            doubtful: dict[str, list[int]] = {topic: [] for topic in self._topics}
        others: list[int] = []
        for index in wanted:
            doubtful.get(messages[index].topic, others).append(index)
        return others, {topic: members for topic, members in doubtful.items() if members}

    def tried(self, topic: str, *, taken: bool) -> None:
        """What became of a doubtful topic."""
        with self._lock:
            self._topics.pop(topic, None)
            if not taken:
                self._topics[topic] = None

    def add(self, topics: Iterable[str]) -> None:
        with self._lock:
            for topic in topics:
                self._topics.setdefault(topic)
