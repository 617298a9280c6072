"""One queue on one server, read with several items open at once.

The server keeps a list of the reads a connection has open and confirms from its beginning: ``confirm QUEUE n`` are the
first n. So an item counts as confirmed when all that were opened before it are acknowledged as well.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from brokers.backoff import Backoff
from brokers.contract import Delivery
from brokers.errors import BrokerRefused, BrokerUnavailable
from brokers.kestrel.broker import Cluster
from brokers.kestrel.connection import Connection, connect
from brokers.kestrel.envelope import in_order, open_item
from brokers.url import Host

#: Bytes that are fetched and not handed out beyond which no more are fetched.
_MOST_BYTES: Final = 16 << 20
_FIRST_BURST: Final = 16
#: As many are asked for at once at most; the server looks for the next ones while these are taken in.
_LARGEST_BURST: Final = 1024
#: Seconds one request waits for an item: as long may an acknowledgement have to wait behind it.
_WAIT: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


@dataclass(eq=False, slots=True)
class Held:
    """An item that the server has set aside for this reader."""

    source: Source
    run: bytes
    number: int
    #: None when it has been handed out.
    delivery: Delivery | None = None
    acknowledged: bool = False
    #: The connection is gone, and so the server has taken it back.
    lost: bool = False


class _Asked(enum.Enum):
    """What the next reply answers."""

    ITEM = enum.auto()
    WAITING = enum.auto()
    CONFIRM = enum.auto()
    ABORT = enum.auto()


class Source:
    def __init__(self, cluster: Cluster, host: Host, topic: str, queue: str) -> None:
        self._cluster = cluster
        self._host = host
        self._topic = topic
        self._queue = queue.encode()
        self._asked: deque[_Asked] = deque()
        self._held: deque[Held] = deque()
        #: Not handed out yet; in order unless `_mixed`.
        self._ready: list[Held] = []
        self._mixed = False
        self._ready_bytes = 0
        self._largest = 1
        self._burst = _FIRST_BURST
        #: Items asked for that have not been answered.
        self._coming = 0
        self._confirming = 0
        self._backoff = Backoff(longest=_LONGEST_PAUSE)
        self._retry_at = 0.0
        #: The server has said, since `begin`, that there is nothing more.
        self._drained = False
        self.connection: Connection | None = None
        #: Why there is no connection.
        self.failure: BrokerUnavailable | BrokerRefused | None = None

    def connect(self, *, until: float, closing: threading.Event) -> None:
        """Connect, unless this was just tried in vain."""
        if self.connection is not None or time.monotonic() < self._retry_at:
            return
        try:
            self.connection = connect(self._host, until=until, closing=closing)
        except OSError as error:
            self._lose(self._cluster.unavailable(self._host, self._topic, error))
            return
        self.failure = None

    def begin(self) -> None:
        """What was said of the queue before no longer counts."""
        self._drained = False

    def fetch(self, wait: float) -> None:
        """Ask for what there is; for one item within ``wait`` seconds once it is known that there is nothing."""
        if self.connection is None or self._asked or self._room <= 0 or self._ready_bytes >= _MOST_BYTES:
            return
        if not self._drained:
            self._ask_for_items(at_least=1)
        elif wait > 0:
            milliseconds = max(1, round(1000 * min(wait, _WAIT)))
            self._ask(b"get %b/t=%d/open\r\n" % (self._queue, milliseconds), _Asked.WAITING, 1, extra=milliseconds / 1000)

    def confirm(self) -> None:
        """Confirm what is acknowledged without a gap."""
        count = 0
        for held in self._held:
            if not held.acknowledged:
                break
            count += 1
        if count and self.connection is not None:
            self._confirming = count
            self._ask(b"confirm %b %d\r\n" % (self._queue, count), _Asked.CONFIRM, 1)

    def abort(self) -> None:
        """Give back all that is held."""
        if self._held and not self._asked:
            self._ask(b"get %b/abort\r\n" % self._queue, _Asked.ABORT, len(self._held))

    def digest(self) -> None:
        """Take in what the server has answered."""
        connection = self.connection
        if connection is None:
            return
        if self._coming and connection.replies and (item := connection.replies[-1][1]) is not None:
            self._largest = max(len(item), self._largest)
            if connection.expected < self._burst:
                self._ask_for_items(at_least=0)
        self._largest = max(1, self._largest * 7 // 8)
        replies, asked = connection.replies, self._asked
        while replies and self.connection is not None:
            line, item = replies.popleft()
            kind = asked.popleft() if asked else None
            if item is not None and (kind is _Asked.ITEM or kind is _Asked.WAITING):
                self._hold(item)
            else:
                self._take(kind, line)
        self._coming = asked.count(_Asked.ITEM)
        if self._ready:
            self._backoff.reset()
        if connection.failure is not None and self.connection is not None:
            self._lose(self._cluster.unavailable(self._host, self._topic, connection.failure))

    def hand_out(self, most: int) -> list[Delivery]:
        """At most ``most`` deliveries, in order."""
        if self._mixed:
            self._ready = in_order(self._ready)
            self._mixed = False
        given, self._ready = self._ready[:most], self._ready[most:]
        deliveries = []
        for held in given:
            delivery = held.delivery
            if delivery is not None:
                held.delivery = None
                self._ready_bytes -= len(delivery.value)
                deliveries.append(delivery)
        return deliveries

    def hand_out_again(self, held: Held, delivery: Delivery) -> None:
        """To be handed out before others."""
        if not held.lost and held.delivery is None and not held.acknowledged:
            held.delivery = delivery._replace(redelivered=True)
            self._ready_bytes += len(delivery.value)
            self._ready.insert(0, held)
            self._mixed = True

    @property
    def bursting(self) -> bool:
        """More is on its way than one item that may come."""
        return self._coming > 0

    @property
    def ready(self) -> bool:
        """Whether there is something to hand out."""
        return bool(self._ready)

    @property
    def busy(self) -> bool:
        return bool(self._asked)

    @property
    def confirming(self) -> bool:
        return self._confirming > 0

    @property
    def aborting(self) -> bool:
        return _Asked.ABORT in self._asked

    def close(self) -> None:
        """Without a connection nothing is held: the server gives it to whoever asks next."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        for held in self._held:
            held.lost = True
        self._held.clear()
        self._ready.clear()
        self._asked.clear()
        self._ready_bytes = self._coming = self._confirming = 0

    @property
    def _room(self) -> int:
        return self._cluster.options.open_reads - len(self._held) - self._coming

    def _ask_for_items(self, *, at_least: int) -> None:
        fitting = (_MOST_BYTES - self._ready_bytes) // self._largest - self._coming
        count = min(self._room, self._burst, max(at_least, fitting))
        if count > 0:
            self._coming += count
            self._ask(b"get %b/open\r\n" % self._queue, _Asked.ITEM, count)
            self._burst = min(2 * self._burst, _LARGEST_BURST)

    def _ask(self, request: bytes, kind: _Asked, count: int, *, extra: float = 0.0) -> None:
        if self.connection is not None:
            patience = self._cluster.options.answer_timeout + extra
            # Behind a request that waits, an answer may take as long as that.
            patience += _WAIT if _Asked.WAITING in self._asked else 0.0
            self.connection.ask(iter((request * count,)), count, within=patience)
            self._asked.extend([kind] * count)

    def _take(self, kind: _Asked | None, line: bytes) -> None:
        if line != b"END" or kind is None:
            self._refused(kind, line)
        elif kind is _Asked.CONFIRM:
            for _ in range(self._confirming):
                self._held.popleft()
            self._confirming = 0
        elif kind is not _Asked.ABORT:
            self._drained = True
            self._burst = _FIRST_BURST
            self._backoff.reset()

    def _hold(self, item: bytes) -> None:
        run, number, key, value = open_item(item)
        held = Held(self, run, number)
        held.delivery = Delivery(self._topic, key, value, held, redelivered=False)
        self._held.append(held)
        self._ready.append(held)
        self._mixed = True
        self._ready_bytes += len(value)
        self._largest = max(self._largest, len(value))

    def _refused(self, kind: _Asked | None, line: bytes) -> None:
        answer = line.decode("latin-1")[:200]
        where = f"{self._cluster.url}: topic {self._topic!r}: {self._host.name}: the server answered {answer!r}"
        if kind in (_Asked.ITEM, _Asked.WAITING) and line.startswith((b"ERROR", b"CLIENT_ERROR")):
            error: BrokerRefused | BrokerUnavailable = BrokerRefused(
                f"{where} to a reader with {len(self._held)} items open",
                remedy="set maxOpenTransactions of the server to the reader's open_reads, or lower open_reads in the URL",
            )
        else:
            error = BrokerUnavailable(where, remedy="see its status and its log; it is tried again")
        self._lose(error)

    def _lose(self, error: BrokerUnavailable | BrokerRefused) -> None:
        self.close()
        self.failure = error
        self._retry_at = time.monotonic() + self._backoff.next()
