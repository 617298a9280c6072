"""One end of the socket pair between the agent and a child: messages with their length before them."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Final, Generic, TypeVar

import msgspec

from gateway_agent.host.messages import MAX_MESSAGE_BYTES, Message

M = TypeVar("M")

_LENGTH: Final = struct.Struct("<I")
_BUFFER_BYTES: Final = 1 << 20


class LinkBroken(Exception):
    """The other side is gone, or what it said cannot be understood."""


class Unintelligible(LinkBroken):
    """The other side is there, and says what is no message."""


class Link(Generic[M]):
    """Any thread may send; one receives. ``kind`` is the union of what is received."""

    def __init__(self, end: socket.socket, kind: object) -> None:
        self._socket = end
        self._sending = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kind)
        self._received = bytearray()
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)

    def send(self, message: Message) -> None:
        """Raises `LinkBroken`."""
        body = self._encoder.encode(message)
        try:
            with self._sending:
                self._socket.sendall(_LENGTH.pack(len(body)) + body)
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def receive(self, timeout: float | None = None) -> M | None:
        """The next message; None when ``timeout`` seconds passed without anything. Raises `LinkBroken` at the end."""
        buffer = self._received
        while True:
            if len(buffer) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer)
                if length > MAX_MESSAGE_BYTES:
                    raise Unintelligible(f"a message of {length} bytes, {MAX_MESSAGE_BYTES} are the most")
                end = _LENGTH.size + length
                if len(buffer) >= end:
                    body = bytes(memoryview(buffer)[_LENGTH.size : end])
                    del buffer[:end]
                    return self._decode(body)
            if not self._read(timeout):
                return None

    def close(self) -> None:
        """Ends a `receive` of another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        finally:
            self._socket.close()

    def _read(self, timeout: float | None) -> bool:
        try:
            self._socket.settimeout(timeout)
            data = self._socket.recv(_BUFFER_BYTES)
        except TimeoutError:
            return False
        except OSError as error:
            raise LinkBroken(str(error)) from error
        if not data:
            raise LinkBroken("closed")
        self._received += data
        return True

    def _decode(self, body: bytes) -> M:
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise Unintelligible(f"a message that cannot be read: {error}") from error
