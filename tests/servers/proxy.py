"""A TCP proxy that a test can cut, or make hold everything back: a network that fails."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from typing import Final

_CHUNK: Final = 1 << 16
#: Bytes held for a side that does not take them.
_HELD: Final = 1 << 20
_ABORT: Final = struct.pack("ii", 1, 0)


class _Pair:
    """Two connections, and what is on its way between them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.waiting: dict[socket.socket, bytearray] = {client: bytearray(), server: bytearray()}

    def other(self, end: socket.socket) -> socket.socket:
        return self.ends[1] if end is self.ends[0] else self.ends[0]


class TcpProxy:
    """Forwards connections to ``target_port`` of this machine, one thread for all of them."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waker, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._pairs: dict[socket.socket, _Pair] = {}
        self._silent: list[socket.socket] = []
        self._lock = threading.Lock()
        self._mode = "forward"
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break all connections with a reset, and every new one as soon as it is made."""
        self._turn("cut")

    def hang(self) -> None:
        """Accept connections and pass nothing on, in neither direction; those that are there are held as well."""
        self._turn("hang")

    def restore(self) -> None:
        """Forward again. What was held goes on; connections accepted meanwhile are broken."""
        self._turn("forward")

    def close(self) -> None:
        self._turn("cut")
        self._closed = True
        with contextlib.suppress(OSError):  # the thread may have seen it, and ended, by itself
            self._waker.send(b"x")
        self._thread.join(timeout=10)

    def _turn(self, mode: str) -> None:
        with self._lock:
            self._mode = mode
            if mode == "cut":
                for pair in set(self._pairs.values()):
                    self._break(pair)
            if mode != "hang":
                while self._silent:
                    _abort(self._silent.pop())
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _run(self) -> None:
        while not self._closed:
            ready = self._selector.select(timeout=0.5)
            with self._lock:
                for key, events in ready:
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    if end is self._woken:
                        end.recv(4096)
                        self._listen_all()
                    elif end is self._listener:
                        self._accept()
                    elif end in self._pairs:
                        self._move(end, events)
        self._listener.close()
        self._selector.close()
        self._waker.close()
        self._woken.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            if self._mode == "hang":
                self._silent.append(client)
                return
            if self._mode == "cut":
                _abort(client)
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                _abort(client)
                return
            pair = _Pair(client, server)
            for end in pair.ends:
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs[end] = pair
                self._selector.register(end, selectors.EVENT_READ)

    def _move(self, end: socket.socket, events: int) -> None:
        pair = self._pairs[end]
        other = pair.other(end)
        if self._mode == "hang":
            self._listen(end, pair)
            return
        try:
            if events & selectors.EVENT_READ and len(pair.waiting[other]) < _HELD:
                data = end.recv(_CHUNK)
                if not data:
                    self._break(pair)
                    return
                pair.waiting[other] += data
            for side in pair.ends:
                if pair.waiting[side]:
                    sent = side.send(pair.waiting[side])
                    del pair.waiting[side][:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._break(pair)
            return
        for side in pair.ends:
            self._listen(side, pair)

    def _listen_all(self) -> None:
        for end, pair in list(self._pairs.items()):
            self._listen(end, pair)

    def _listen(self, end: socket.socket, pair: _Pair) -> None:
        """Wait for what ``end`` can do now; for nothing while all is held."""
        wanted = 0
        if self._mode != "hang":
            if len(pair.waiting[pair.other(end)]) < _HELD:
                wanted |= selectors.EVENT_READ
            if pair.waiting[end]:
                wanted |= selectors.EVENT_WRITE
        registered = end in self._selector.get_map()
        if not wanted:
            if registered:
                self._selector.unregister(end)
        elif registered:
            self._selector.modify(end, wanted)
        else:
            self._selector.register(end, wanted)

    def _break(self, pair: _Pair) -> None:
        for end in pair.ends:
            self._pairs.pop(end, None)
            if end in self._selector.get_map():
                self._selector.unregister(end)
            _abort(end)


def _abort(end: socket.socket) -> None:
    """Close with a reset instead of a farewell."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    end.close()
