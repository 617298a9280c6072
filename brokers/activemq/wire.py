"""A TCP connection, with TLS or without, that two threads use and a third may end.

stomp.py's own sockets know either no deadline or one that breaks idle connections, trust every certificate unless a
file of authorities is named, and keep the reason for a failure to their log. So it is given these.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from brokers.prompt import confirm_received
from brokers.resolving import addresses_of

T = TypeVar("T")

#: Seconds between looks at whether somebody ended the connection.
_LOOK_EVERY: Final = 0.2
_CHUNK: Final = 1 << 16


class Wire:
    """Made by `open_wire`. All methods raise `OSError`; `TimeoutError` when a deadline (of `time.monotonic`) passes."""

    def __init__(self, connection: socket.socket, ended: Callable[[], bool]) -> None:
        self._socket = connection
        self._ended = ended
        self._closed = threading.Event()
        self._sending = threading.Lock()
        # OpenSSL lets one thread at a time use a connection.
        self._using = threading.Lock()
        self.sent_at = time.monotonic()

    def start_tls(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        secured = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        self._socket = secured
        self._complete(secured.do_handshake, select.POLLIN, deadline)

    def established(self) -> None:
        """From here on only `close` ends it."""
        self._ended = self._closed.is_set

    def send(self, data: bytes, *, deadline: float) -> None:
        """Send all of ``data``, in one piece whoever else sends."""
        if not self._sending.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError("the server did not take what was sent before the deadline")
        try:
            rest = memoryview(data)
            while rest:
                sent = self._complete(partial(self._socket.send, rest[:_CHUNK]), select.POLLOUT, deadline)
                rest = rest[sent:]
                self.sent_at = time.monotonic()
        finally:
            self._sending.release()

    @property
    def busy(self) -> bool:
        """Whether something is being sent."""
        return self._sending.locked()

    def receive(self, wait: float) -> bytes | None:
        """What there is; empty when the server closed the connection, None when nothing came for ``wait`` seconds."""
        # ActiveMQ's server has no TCP_NODELAY.
        confirm_received(self._socket)
        try:
            return self._complete(partial(self._socket.recv, _CHUNK), select.POLLIN, time.monotonic() + wait)
        except TimeoutError:
            return None

    def close(self) -> None:
        """End it; whoever waits in it is woken. The socket itself goes with `release`."""
        self._closed.set()
        with contextlib.suppress(OSError, ValueError), self._using:
            self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        self.close()
        self._socket.close()

    def _complete(self, action: Callable[[], T], events: int, deadline: float) -> T:
        while True:
            if self._ended():
                raise ConnectionAbortedError("closed")
            try:
                with self._using:
                    return action()
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            except BlockingIOError:
                wanted = events
            _wait(self._socket, wanted, deadline)


def open_wire(host: str, port: int, tls: ssl.SSLContext | None, *, deadline: float, ended: Callable[[], bool]) -> Wire:
    """Connect. Raises `OSError`, also when ``ended`` becomes true."""
    failure: OSError = ConnectionRefusedError(f"{host} has no address")
    for family, kind, protocol, address in addresses_of(host, port, deadline=deadline, ended=ended):
        connection = socket.socket(family, kind, protocol)
        wire = Wire(connection, ended)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _connect(connection, address, deadline, ended)
            if tls is not None:
                wire.start_tls(tls, host, deadline)
            wire.established()
            return wire
        except OSError as error:
            wire.release()
            failure = error
    raise failure


def _connect(connection: socket.socket, address: Any, deadline: float, ended: Callable[[], bool]) -> None:
    with contextlib.suppress(BlockingIOError):
        connection.connect(address)
        return
    while not _wait(connection, select.POLLOUT, deadline):
        if ended():
            raise ConnectionAbortedError("closed")
    if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))


def _wait(connection: socket.socket, events: int, deadline: float) -> bool:
    """Whether the connection is ready, after a while at most. Raises `TimeoutError` at the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the server did not answer before the deadline")
    number = connection.fileno()
    if number < 0:
        raise ConnectionAbortedError("closed")
    poll = select.poll()
    poll.register(number, events)
    return bool(poll.poll(min(left, _LOOK_EVERY) * 1000))
