"""Open partition files, as few as needed at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from brokers.local.layout import Layout
from brokers.local.partition import Partition

_MOST: Final = 64


class OpenPartitions:
    """The most recently used partitions of a layout, open. Not for use by two threads at once."""

    def __init__(self, layout: Layout, closing: threading.Event) -> None:
        self._layout = layout
        self._closing = closing
        self._open: OrderedDict[tuple[str, int], Partition] = OrderedDict()

    def get(self, topic: str, partition: int, *, deadline: float) -> Partition | None:
        """The partition, or None while there is no such file. Raises what `Partition` raises, and `OSError`."""
        path = self._layout.path(topic, partition)
        found = self._open.get((topic, partition))
        try:
            inode = path.stat().st_ino
        except FileNotFoundError:
            self.forget(topic, partition)
            return None
        if found is not None and found.inode != inode:  # someone removed the log and made it anew
            self.forget(topic, partition)
            found = None
        if found is None:
            found = self._open[topic, partition] = Partition(path, self._closing, deadline=deadline)
            if len(self._open) > _MOST:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end((topic, partition))
        return found

    def forget(self, topic: str, partition: int) -> None:
        """Close a partition; it is opened again when it is needed."""
        if found := self._open.pop((topic, partition), None):
            found.close()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
