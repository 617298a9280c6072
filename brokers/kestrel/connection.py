"""A connection to a server: requests out, replies in, neither waiting for the other."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from typing import Final, TypeAlias

from brokers.resolving import addresses_of
from brokers.url import Host

PORT: Final = 22133
#: Seconds after which a wait looks whether it is to end.
LOOK: Final = 0.2
_CHUNK: Final = 1 << 18
_LONGEST_LINE: Final = 4096
#: Where there is one that costs no system call to make.
_Selector: Final = getattr(selectors, "PollSelector", selectors.DefaultSelector)


#: A line, and the item that came with it.
Reply: TypeAlias = tuple[bytes, bytes | None]

STORED: Final[Reply] = (b"STORED", None)
_STORED_LINE: Final = b"STORED\r\n"


class Closed(OSError):
    """Whoever uses the connection was told to stop."""


class Connection:
    """One TCP connection that does not block. What goes wrong is in ``failure``, and then it is of no more use."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._requests: Iterator[bytes] = iter(())
        self._outgoing = memoryview(b"")
        self._incoming = bytearray()
        #: Fewer bytes than these are no whole reply.
        self._needed = 1
        self._chunk = memoryview(bytearray(_CHUNK))
        self._writing = False
        self._within = 0.0
        self._answer_by = 0.0
        #: How many replies are yet to come.
        self.expected = 0
        self.replies: deque[Reply] = deque()
        #: Whether a reply came that is not STORED.
        self.turned_down = False
        self.failure: OSError | None = None

    def ask(self, requests: Iterator[bytes], replies: int, *, within: float) -> None:
        """Send ``requests``, which may raise `expected` themselves when their turn comes.

        Within so many seconds there has to be a sign of life as long as an answer is due.
        """
        self._requests = itertools.chain(self._requests, requests) if self._writing else requests
        self._writing = True
        self.expected += replies
        self._within = within
        self._answer_by = time.monotonic() + within

    @property
    def writing(self) -> bool:
        return self._writing

    @property
    def usable(self) -> bool:
        """Whether the server has not ended an idle connection."""
        if self.failure is None:
            self._read()
        return self.failure is None and not self._incoming and not self.replies

    def fileno(self) -> int:
        return self._socket.fileno()

    def move(self, events: int) -> None:
        """Send and receive what is possible now."""
        if events & selectors.EVENT_READ:
            self._read()
        if events & selectors.EVENT_WRITE and self.failure is None:
            self._write()
        if self.failure is None and self.expected and time.monotonic() > self._answer_by:
            self.failure = TimeoutError(f"no answer for {self._within:g} s")

    def close(self) -> None:
        self._socket.close()

    def _write(self) -> None:
        while True:
            if not self._outgoing:
                chunk = next(self._requests, None)
                if chunk is None:
                    self._writing = False
                    return
                self._outgoing = memoryview(chunk)
            try:
                sent = self._socket.send(self._outgoing)
            except BlockingIOError:
                return
            except OSError as error:
                self.failure = error
                return
            self._outgoing = self._outgoing[sent:]
            self._answer_by = time.monotonic() + self._within

    def _read(self) -> None:
        try:
            size = self._socket.recv_into(self._chunk)
        except BlockingIOError:
            return
        except OSError as error:
            self.failure = error
            return
        if not size:
            self.failure = ConnectionResetError("the server ended the connection")
            return
        self._answer_by = time.monotonic() + self._within
        self._incoming += self._chunk[:size]
        if len(self._incoming) >= self._needed:
            self._take_replies()

    def _take_replies(self) -> None:
        data = bytes(self._incoming)
        before = len(self.replies)
        # What a publisher is answered, as a rule: nothing else.
        stored = len(data) // len(_STORED_LINE)
        at = stored * len(_STORED_LINE)
        if stored and data.startswith(_STORED_LINE * stored):
            self.replies.extend([STORED] * stored)
        else:
            at = 0
        self._needed = 1
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            item = None
            if line.startswith(b"VALUE "):
                try:
                    after = end + 2 + int(line.rsplit(b" ", 1)[1])
                except ValueError:
                    self.failure = OSError(f"an answer that is not Kestrel's: {line[:80]!r}")
                    return
                if len(data) < after + 7:
                    self._needed = after + 7 - at
                    break
                item = data[end + 2 : after]
                end = after + 5
            self.replies.append((line, item))
            self.turned_down = self.turned_down or line != b"STORED"
            at = end + 2
        self.expected -= len(self.replies) - before
        del self._incoming[:at]
        if len(self._incoming) > _LONGEST_LINE and not self._incoming.startswith(b"VALUE "):
            self.failure = OSError("an answer that is not Kestrel's")


def connect(host: Host, *, until: float, closing: threading.Event) -> Connection:
    """Connect before ``until`` (monotonic seconds). Raises `OSError`, `Closed` when ``closing`` is set meanwhile."""
    failure: OSError = TimeoutError("timed out")
    for family, kind, protocol, address in addresses_of(host.name, host.port or PORT, deadline=until, ended=closing.is_set):
        opened = socket.socket(family, kind, protocol)
        try:
            _connect(opened, address, until, closing)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return Connection(opened)
        except OSError as error:
            opened.close()
            failure = error
            if isinstance(error, Closed):
                break
    raise failure


class Attempt:
    """A connection that a thread of its own makes, so that nobody waits for a server that swallows packets."""

    def __init__(self, host: Host, *, until: float, closing: threading.Event, news: threading.Event) -> None:
        """``news`` is set when it is over."""
        self._lock = threading.Lock()
        self._given_up = False
        self._connection: Connection | None = None
        self.failure: OSError | None = None
        self._news = news
        threading.Thread(target=self._run, args=(host, until, closing), name=f"kestrel-{host.name}", daemon=True).start()

    def take(self) -> Connection | None:
        """The connection once it is made, for the caller to close; None before that and when there is a `failure`."""
        with self._lock:
            taken, self._connection = self._connection, None
            return taken

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            if self._connection is not None:
                self._connection.close()

    def _run(self, host: Host, until: float, closing: threading.Event) -> None:
        try:
            made = connect(host, until=until, closing=closing)
        except OSError as error:
            self.failure = error
        else:
            with self._lock:
                self._connection = made
                if self._given_up:
                    made.close()
        self._news.set()


def move(connections: Collection[Connection], seconds: float) -> None:
    """Send and receive on all of them what is possible within ``seconds``, at most `LOOK`; return on the first that moves."""
    with _Selector() as selector:
        for connection in connections:
            if connection.writing:
                connection.move(selectors.EVENT_WRITE)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.writing else 0)
            selector.register(connection, events)
        ready = {key.fileobj: events for key, events in selector.select(max(0.0, min(seconds, LOOK)))}
    for connection in connections:
        connection.move(ready.get(connection, 0))


def _connect(opened: socket.socket, address: object, until: float, closing: threading.Event) -> None:
    opened.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        opened.connect(address)  # type: ignore[arg-type]
    with _Selector() as selector:
        selector.register(opened, selectors.EVENT_WRITE)
        while not selector.select(max(0.0, min(LOOK, until - time.monotonic()))):
            if closing.is_set():
                raise Closed(errno.ECANCELED, "closed")
            if time.monotonic() >= until:
                raise TimeoutError("timed out while connecting")
    if code := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))
