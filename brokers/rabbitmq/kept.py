"""Which groups a topic is kept for, as far as this process knows."""

from __future__ import annotations

import threading


class Kept:
    """Filled by `keep` and by readers, asked by publishers of the same broker. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, frozenset[str]] = {}

    def add(self, topic: str, group: str) -> None:
        with self._lock:
            self._groups[topic] = self.groups(topic) | {group}

    def remove(self, topic: str, group: str) -> None:
        with self._lock:
            if left := self.groups(topic) - {group}:
                self._groups[topic] = left
            else:
                self._groups.pop(topic, None)

    def groups(self, topic: str) -> frozenset[str]:
        return self._groups.get(topic, frozenset())

    def __contains__(self, topic: object) -> bool:
        return topic in self._groups
