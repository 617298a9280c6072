"""Queues of items, their fan-out, and what waits for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tests.servers.kestrel.journal import Entry, Journal, Operation

_FORBIDDEN: Final = frozenset("/~. \r\n\0")


def now() -> int:
    """ms since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Settings:
    """Named as in the guide, for all queues alike. Zero means no limit."""

    max_items: int = 0
    max_bytes: int = 0
    max_item_bytes: int = 0
    discard_old_when_full: bool = False
    #: The parent of fan-out queues keeps nothing itself.
    fanout_only: bool = False
    #: An empty queue's journal is cut at this size, one that holds less than half of it is rewritten.
    journal_bytes: int = 16 << 20


class Item(NamedTuple):
    data: bytes
    #: Both in ms since 1970; an expiry of 0 is never.
    added: int
    expiry: int


class Waiter(Protocol):
    def wake(self) -> None:
        """There may be an item, or the queue is gone. It is no longer waiting, and may wait again."""


@dataclass
class Counts:
    total_items: int = 0
    expired_items: int = 0
    discarded: int = 0
    transactions: int = 0
    canceled_transactions: int = 0
    total_flushes: int = 0
    journal_rewrites: int = 0
    created: int = field(default_factory=now)


class Queue:
    """First in, first out. Items that were opened are set aside until they are confirmed or put back at the head."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.settings = settings
        self.journal = Journal(path)
        self.items: deque[Item] = deque()
        self.open: dict[int, Item] = {}
        self.bytes = 0
        self.deleted = False
        self.waiters: dict[Waiter, None] = {}
        self.counts = Counts()
        self._number = 0
        for entry in self.journal.replay():
            self._make_again(entry)
        # In descending order, so that the first that was opened is the first again.
        for number in sorted(self.open, reverse=True):
            self.put_back(number)

    def add(self, data: bytes, expiry: int) -> bool:
        """Whether there is room. ``expiry`` in ms since 1970, or 0."""
        settings = self.settings
        self.discard_expired()
        while (settings.max_items and len(self.items) >= settings.max_items) or (
            settings.max_bytes and self.bytes >= settings.max_bytes
        ):
            if not settings.discard_old_when_full:
                return False
            self._remove()
            self.counts.discarded += 1
        self.journal.append(Operation.ADD, expiry, data)
        self.items.append(Item(data, now(), expiry))
        self.bytes += len(data)
        self.counts.total_items += 1
        self._wake()
        return True

    def peek(self) -> Item | None:
        self.discard_expired()
        return self.items[0] if self.items else None

    def remove(self) -> Item | None:
        self.discard_expired()
        return self._remove() if self.items else None

    def remove_tentatively(self) -> tuple[Item, int] | None:
        """An item and its transaction."""
        self.counts.transactions += 1
        self.discard_expired()
        if not self.items:
            return None
        self._number += 1
        self.journal.append(Operation.OPEN, self._number)
        item = self.open[self._number] = self._take()
        return item, self._number

    def confirm(self, number: int) -> None:
        if self.open.pop(number, None) is not None:
            self.journal.append(Operation.CONFIRM, number)

    def put_back(self, number: int) -> None:
        item = self.open.pop(number, None)
        if item is None:
            return
        self.journal.append(Operation.BACK, number)
        self.items.appendleft(item)
        self.bytes += len(item.data)
        self.counts.canceled_transactions += 1
        self._wake()

    def flush(self) -> None:
        while self.items:
            self._remove()
        self.counts.total_flushes += 1

    def discard_expired(self) -> None:
        while self.items and 0 < self.items[0].expiry <= now():
            self._remove()
            self.counts.expired_items += 1

    def delete(self) -> None:
        self.deleted = True
        self.journal.erase()
        for waiter in tuple(self.waiters):
            waiter.wake()

    def bound_journal(self) -> None:
        """Keep the journal within about twice what the queue holds, or ``journal_bytes``."""
        size = self.journal.size
        if size >= self.settings.journal_bytes and self.bytes + sum(len(item.data) for item in self.open.values()) <= size // 2:
            self.journal.rewrite(self._entries())
            self.counts.journal_rewrites += 1

    def stats(self) -> dict[str, int]:
        counts = self.counts
        return {
            "items": len(self.items),
            "bytes": self.bytes,
            "total_items": counts.total_items,
            "logsize": self.journal.size,
            "expired_items": counts.expired_items,
            "mem_items": len(self.items),
            "mem_bytes": self.bytes,
            "age": now() - self.items[0].added if self.items else 0,
            "discarded": counts.discarded,
            "waiters": len(self.waiters),
            "open_transactions": len(self.open),
            "transactions": counts.transactions,
            "canceled_transactions": counts.canceled_transactions,
            "total_flushes": counts.total_flushes,
            "journal_rewrites": counts.journal_rewrites,
            "create_time": counts.created,
        }

    def _entries(self) -> Iterator[Entry]:
        """What makes the queue as it is now."""
        for number, item in sorted(self.open.items()):
            yield Entry(Operation.ADD, item.expiry, item.data)
            yield Entry(Operation.OPEN, number)
        for item in self.items:
            yield Entry(Operation.ADD, item.expiry, item.data)

    def _make_again(self, entry: Entry) -> None:
        if entry.operation is Operation.ADD:
            self.items.append(Item(entry.data, now(), entry.number))
            self.bytes += len(entry.data)
        elif entry.operation is Operation.REMOVE:
            self._take()
        elif entry.operation is Operation.OPEN:
            self.open[entry.number] = self._take()
            self._number = max(self._number, entry.number)
        elif entry.operation is Operation.CONFIRM:
            del self.open[entry.number]
        else:
            item = self.open.pop(entry.number)
            self.items.appendleft(item)
            self.bytes += len(item.data)

    def _take(self) -> Item:
        item = self.items.popleft()
        self.bytes -= len(item.data)
        return item

    def _remove(self) -> Item:
        self.journal.append(Operation.REMOVE)
        return self._take()

    def _wake(self) -> None:
        while self.items and self.waiters:
            next(iter(self.waiters)).wake()


class Queues:
    """All queues below a directory, one journal each. A queue comes into being when it is named."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._queues: dict[str, Queue] = {}
        self._children: dict[str, set[str]] = {}
        self._touched: dict[str, Queue] = {}
        for path in sorted(directory.glob("*.journal")):
            self.queue(path.name.removesuffix(".journal"))

    def __iter__(self) -> Iterator[tuple[str, Queue]]:
        return iter(self._queues.items())

    def queue(self, name: str) -> Queue:
        """Made when there is none. Raises `ValueError` for a name that no queue can have."""
        found = self._queues.get(name)
        if found is None:
            if not name or _FORBIDDEN & set(name):
                raise ValueError(f"no queue can be called {name!r}")
            found = self._queues[name] = Queue(self._directory / f"{name}.journal", self._settings)
            parent, fanned, _ = name.partition("+")
            if fanned:
                self._children.setdefault(parent, set()).add(name)
        self._touched[name] = found
        return found

    def find(self, name: str) -> Queue | None:
        """Not made when there is none."""
        found = self._queues.get(name)
        if found is not None:
            self._touched[name] = found
        return found

    def add(self, name: str, data: bytes, expiry: int) -> bool:
        """Whether the queue took it. As in the published server, what becomes of it in fan-out queues is not told."""
        settings = self._settings
        if settings.max_item_bytes and len(data) > settings.max_item_bytes:
            return False
        for child in self._children.get(name, ()):
            self.queue(child).add(data, expiry)
        queue = self.queue(name)
        if settings.fanout_only and "+" not in name:
            return True
        return queue.add(data, expiry)

    def delete(self, name: str) -> None:
        if found := self._queues.pop(name, None):
            self._touched.pop(name, None)
            self._children.get(name.partition("+")[0], set()).discard(name)
            found.delete()

    def write(self, *, sync: bool) -> None:
        """Write the journals of all queues that were used since the last time."""
        touched, self._touched = self._touched, {}
        for queue in touched.values():
            queue.bound_journal()
            queue.journal.write()
            if sync:
                queue.journal.sync()

    def sync(self) -> None:
        for queue in self._queues.values():
            queue.journal.sync()

    def discard_expired(self) -> None:
        for name in tuple(self._queues):
            self.queue(name).discard_expired()
