"""A connection's bytes in large pieces: paho-mqtt reads each packet in three, and sends each by itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from brokers.prompt import confirm_received

_CHUNK: Final = 1 << 16
#: Of Linux: what is sent meanwhile goes out in full segments.
_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)


class Stream:
    """What paho-mqtt wants of a socket, around one that does not block."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._chunk = b""
        self._at = 0
        # Without it the last of several small packets waits until the server has confirmed those before it.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, size: int) -> bytes:
        if self._at == len(self._chunk):
            self._chunk, self._at = self._socket.recv(_CHUNK), 0
        found = self._chunk[self._at : self._at + size]
        self._at += len(found)
        return found

    def pending(self) -> int:
        """Bytes that are here already: the operating system does not tell of them."""
        encrypted = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return len(self._chunk) - self._at + encrypted

    def send(self, data: bytes | bytearray) -> int:
        return self._socket.send(data)

    def confirm(self) -> None:
        """Confirm what has come, before waiting for more.

        mosquitto has no TCP_NODELAY: so small packets gather while those before them are taken in, and none waits longer.
        """
        confirm_received(self._socket)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send what is sent meanwhile in as few segments as it needs."""
        self._cork(1)
        yield
        self._cork(0)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        self._socket.setblocking(flag)

    def _cork(self, value: int) -> None:
        if _CORK is not None:
            with contextlib.suppress(OSError):  # whoever reads or sends next is told
                self._socket.setsockopt(socket.IPPROTO_TCP, _CORK, value)
