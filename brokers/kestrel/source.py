"""One queue on one server, read with several items open at once.

The server keeps a list of the reads a connection has open and confirms from its beginning: ``confirm QUEUE n`` are the
first n. So an item counts as confirmed when all that were opened before it are acknowledged as well.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from brokers.backoff import Backoff
from brokers.contract import Delivery
from brokers.errors import BrokerRefused, BrokerUnavailable
from brokers.kestrel.broker import Cluster
from brokers.kestrel.connection import Attempt, Connection, Reply
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


class Held:
    """An item that the server has set aside for this reader."""

    __slots__ = ("acknowledged", "delivery", "lost", "number", "run", "source")

    def __init__(self, source: Source, run: bytes, number: int) -> None:
        self.source = source
        self.run = run
        self.number = number
        #: None when it has been handed out.
        self.delivery: Delivery | None = None
        self.acknowledged = False
        #: The connection is gone, and so the server has taken it back.
        self.lost = False


class _Kind(enum.Enum):
    ITEM = enum.auto()
    WAITING = enum.auto()
    CONFIRM = enum.auto()
    ABORT = enum.auto()


@dataclass(slots=True)
class _Asked:
    """What the next replies answer, and how many of them."""

    kind: _Kind
    left: int


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
        self._attempt: Attempt | None = None
        self.connection: Connection | None = None
        #: Why there is no connection.
        self.failure: BrokerUnavailable | BrokerRefused | None = None

    def connect(self, *, until: float, closing: threading.Event) -> None:
        """Begin to connect, unless this was just tried in vain, or see what has become of it."""
        if self.connection is not None:
            return
        if self._attempt is None:
            if time.monotonic() < self._retry_at:
                return
            self._attempt = Attempt(self._host, until=until, closing=closing, news=threading.Event())
        if made := self._attempt.take():
            self.connection, self._attempt, self.failure = made, None, None
        elif (failure := self._attempt.failure) is not None:
            self._attempt = None
            self._lose(self._cluster.unavailable(self._host, self._topic, failure))

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
            self._ask(b"get %b/t=%d/open\r\n" % (self._queue, milliseconds), _Kind.WAITING, 1, extra=milliseconds / 1000)

    def confirm(self) -> None:
        """Confirm what is acknowledged without a gap."""
        count = 0
        for held in self._held:
            if not held.acknowledged:
                break
            count += 1
        if count and self.connection is not None:
            self._confirming = count
            self._ask(b"confirm %b %d\r\n" % (self._queue, count), _Kind.CONFIRM, 1)

    def abort(self) -> None:
        """Give back all that is held."""
        if self._held and not self._asked:
            self._ask(b"get %b/abort\r\n" % self._queue, _Kind.ABORT, len(self._held))

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
        while connection.replies and self.connection is not None:
            self._take(connection.replies)
        self._coming = sum(asked.left for asked in self._asked if asked.kind is _Kind.ITEM)
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
    def connecting(self) -> bool:
        return self._attempt is not None

    @property
    def busy(self) -> bool:
        return bool(self._asked)

    @property
    def confirming(self) -> bool:
        return self._confirming > 0

    @property
    def aborting(self) -> bool:
        return self._has_asked(_Kind.ABORT)

    def close(self) -> None:
        """Without a connection nothing is held: the server gives it to whoever asks next."""
        if self._attempt is not None:
            self._attempt.give_up()
            self._attempt = None
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
            self._ask(b"get %b/open\r\n" % self._queue, _Kind.ITEM, count)
            self._burst = min(2 * self._burst, _LARGEST_BURST)

    def _ask(self, request: bytes, kind: _Kind, count: int, *, extra: float = 0.0) -> None:
        if self.connection is not None:
            patience = self._cluster.options.answer_timeout + extra
            # Behind a request that waits, an answer may take as long as that.
            patience += _WAIT if self._has_asked(_Kind.WAITING) else 0.0
            self.connection.ask(iter((request * count,)), count, within=patience)
            self._asked.append(_Asked(kind, count))

    def _take(self, replies: deque[Reply]) -> None:
        """Take in what answers the first thing asked for."""
        if not self._asked:
            self._answered(None, replies.popleft()[0])
            return
        asked = self._asked[0]
        some = [replies.popleft() for _ in range(min(asked.left, len(replies)))]
        asked.left -= len(some)
        if not asked.left:
            self._asked.popleft()
        if asked.kind is _Kind.ITEM or asked.kind is _Kind.WAITING:
            self._hold([item for _, item in some if item is not None])
            some = [reply for reply in some if reply[1] is None]
        for line, _ in some:
            if self.connection is not None:
                self._answered(asked.kind, line)

    def _has_asked(self, kind: _Kind) -> bool:
        return any(asked.kind is kind for asked in self._asked)

    def _answered(self, kind: _Kind | None, line: bytes) -> None:
        if line != b"END" or kind is None:
            self._refused(kind, line)
        elif kind is _Kind.CONFIRM:
            for _ in range(self._confirming):
                self._held.popleft()
            self._confirming = 0
        elif kind is not _Kind.ABORT:
            self._drained = True
            self._burst = _FIRST_BURST
            self._backoff.reset()

    def _hold(self, items: Sequence[bytes]) -> None:
        come = []
        size = 0
        for item in items:
            run, number, key, value = open_item(item)
            held = Held(self, run, number)
            held.delivery = Delivery(self._topic, key, value, held, False)
            come.append(held)
            size += len(value)
        self._held += come
        self._ready += come
        self._mixed = True
        self._ready_bytes += size
        self._largest = max(self._largest, *map(len, items), 1)

    def _refused(self, kind: _Kind | None, line: bytes) -> None:
        answer = line.decode("latin-1")[:200]
        where = f"{self._cluster.url}: topic {self._topic!r}: {self._host.name}: the server answered {answer!r}"
        if kind in (_Kind.ITEM, _Kind.WAITING) and line.startswith((b"ERROR", b"CLIENT_ERROR")):
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
