"""A client for tests of the server itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, Final

from tests.servers.kestrel import KestrelServer

PATIENCE: Final = 20.0
#: Starts a server with arguments of its own.
Start = Callable[..., KestrelServer]


class Wire:
    """A client that says exactly what it is told."""

    def __init__(self, server: KestrelServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._file = self._socket.makefile("rb")

    def send(self, *requests: str | bytes) -> None:
        self._socket.sendall(b"".join(r.encode() + b"\r\n" if isinstance(r, str) else r for r in requests))

    def line(self) -> str:
        """The next line; empty when the server has hung up."""
        line = self._file.readline()
        assert not line or line.endswith(b"\r\n")
        return line[:-2].decode()

    def item(self) -> bytes | None:
        """The next item, or None for END."""
        line = self.line()
        if line == "END":
            return None
        assert line.startswith("VALUE "), line
        data = self._file.read(int(line.split()[3]))
        assert self._file.read(7) == b"\r\nEND\r\n"
        return bytes(data)

    def ask(self, request: str) -> str:
        self.send(request)
        return self.line()

    def put(self, queue: str, *items: bytes, expiry: int = 0) -> list[str]:
        self.send(*(b"set %b 0 %d %d\r\n%b\r\n" % (queue.encode(), expiry, len(item), item) for item in items))
        return [self.line() for _ in items]

    def get(self, request: str) -> bytes | None:
        self.send(f"get {request}")
        return self.item()

    def all(self, queue: str) -> list[bytes]:
        found = []
        while (item := self.get(queue)) is not None:
            found.append(item)
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
