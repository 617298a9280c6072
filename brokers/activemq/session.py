"""A connection that the server has accepted, and what it asks and is told in it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from stomp.utils import calculate_heartbeats  # type: ignore[import-untyped,import-not-found,unused-ignore]

from brokers.activemq.failures import SessionFailed, network_failure, only_rolled_back, server_error
from brokers.activemq.frames import frame
from brokers.activemq.options import Address
from brokers.activemq.transport import WireTransport
from brokers.activemq.wire import Wire, open_wire

#: Bytes of messages that may wait to be taken before the server is no longer listened to.
_MAX_WAITING: Final = 16 << 20
#: Seconds that taking leave may take.
_FAREWELL: Final = 0.4
_LOOK_EVERY: Final = 0.2
#: Bytes sent at once.
_PIECE: Final = 1 << 13
#: Seconds until the server has said why it rolled a transaction back; it says that it did from another thread.
_EXPLANATION: Final = 1.0


class Session:
    """Made by `open_session`. Any ERROR of the server ends it, as the specification has it.

    One thread uses it, another may close it. `SessionFailed` is raised when it cannot be used any more.
    """

    def __init__(self, wire: Wire, address: Address) -> None:
        self._wire = wire
        self._heartbeat = round(address.heartbeat * 1000)
        self._changed = threading.Condition()
        self._receipts: set[str] = set()
        self._asked = 0
        self._waiting_for_receipt = 0
        self._messages: deque[Any] = deque()
        self._waiting_bytes = 0
        self._connected = False
        self._closed = False
        self._failed: SessionFailed | None = None
        self._rolled_back: SessionFailed | None = None
        self._transport = WireTransport(wire, self._room)
        self._transport.set_listener("session", self)

    @property
    def usable(self) -> bool:
        with self._changed:
            return self._failed is None and not self._closed

    def log_on(self, address: Address, host: str, *, deadline: float, ended: Callable[[], bool]) -> None:
        headers = {"accept-version": "1.2", "host": host, "heart-beat": f"{self._heartbeat},{self._heartbeat}"}
        if address.user:
            headers |= {"login": address.user, "passcode": address.password}
        self._transport.start()
        self._send(frame("CONNECT", headers), deadline)
        with self._changed:
            while not self._connected:
                self._check()
                left = deadline - time.monotonic()
                if ended():
                    raise SessionFailed("closed")
                if left <= 0:
                    raise SessionFailed("the server accepts connections but does not answer")
                self._changed.wait(min(left, _LOOK_EVERY))

    def ask(self, frames: Iterable[bytes], command: str, headers: dict[str, str], *, deadline: float) -> None:
        """Send ``frames`` and one more; return when the server confirms that one, and so all before it.

        It works frames off in their order, and an ERROR about any of them ends the session.
        """
        self._asked += 1
        receipt = str(self._asked)
        with self._changed:
            self._waiting_for_receipt += 1
            self._changed.notify_all()
        try:
            self._send_all(itertools.chain(frames, [frame(command, headers | {"receipt": receipt})]), deadline)
            with self._changed:
                while receipt not in self._receipts:
                    self._check()
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise SessionFailed("the server did not confirm before the deadline")
                    if self._rolled_back is not None:
                        self._changed.wait_for(lambda: self._failed is not None, timeout=min(left, _EXPLANATION))
                        self._check()
                        raise self._rolled_back
                    self._changed.wait(left)
                self._receipts.clear()
        except SessionFailed as failed:
            # What was sent may yet be done: nothing may follow it here.
            self._fail(failed)
            raise
        finally:
            with self._changed:
                self._waiting_for_receipt -= 1

    def take(self, most: int, *, until: float) -> list[Any]:
        """Messages (stomp.py's frames), waiting for the first; empty at ``until`` and when closed."""
        with self._changed:
            while not self._messages:
                if self._closed:
                    return []
                self._check()
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._changed.wait(left)
            self._check()
            taken = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
            self._waiting_bytes -= sum(len(message.body) for message in taken)
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Take leave if that is quickly done, and end whatever waits."""
        with self._changed:
            if self._closed:
                return
            was_usable = self._failed is None and self._connected
            self._closed = True
            self._changed.notify_all()
        if was_usable:
            # The server then has back what was not acknowledged when this returns.
            with contextlib.suppress(OSError):
                until = time.monotonic() + _FAREWELL
                self._wire.send(frame("DISCONNECT", {"receipt": "farewell"}), deadline=until)
                with self._changed:
                    self._changed.wait_for(
                        lambda: "farewell" in self._receipts or self._failed is not None, timeout=until - time.monotonic()
                    )
        self._wire.close()

    # Called by stomp.py in its receiving thread.

    def on_connected(self, received: Any) -> None:
        theirs = received.headers.get("heart-beat", "0,0").replace(" ", "").split(",")
        send, receive = calculate_heartbeats(theirs, (self._heartbeat, self._heartbeat))
        self._transport.beat(send / 1000, receive / 1000)
        with self._changed:
            self._connected = True
            self._changed.notify_all()

    def on_message(self, received: Any) -> None:
        with self._changed:
            self._messages.append(received)
            self._waiting_bytes += len(received.body)
            self._changed.notify_all()

    def on_receipt(self, received: Any) -> None:
        with self._changed:
            self._receipts.add(received.headers["receipt-id"])
            self._changed.notify_all()

    def on_error(self, received: Any) -> None:
        text = received.headers.get("message") or received.body.decode(errors="replace").partition("\n")[0]
        failed = server_error(text, connecting=not self._connected)
        if only_rolled_back(text):
            with self._changed:
                self._rolled_back = failed
                self._changed.notify_all()
        else:
            self._fail(failed)
            self._wire.close()

    def on_disconnected(self) -> None:
        error = self._transport.failure
        self._fail(network_failure(error) if error else SessionFailed("the server closed the connection"))

    def _fail(self, failed: SessionFailed) -> None:
        with self._changed:
            self._failed = self._failed or failed
            self._changed.notify_all()

    def _check(self) -> None:
        if self._closed:
            raise SessionFailed("closed")
        if self._failed is not None:
            raise self._failed

    def _send_all(self, frames: Iterable[bytes], deadline: float) -> None:
        """A piece at a time, so that the server works on the first while the next are made."""
        piece = bytearray()
        for one in frames:
            piece += one
            if len(piece) >= _PIECE:
                self._send(bytes(piece), deadline)
                piece.clear()
        self._send(bytes(piece), deadline)

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._wire.send(data, deadline=deadline)
        except OSError as error:
            if not isinstance(error, TimeoutError):
                # What the server said before it closed the connection says more.
                with self._changed:
                    self._changed.wait_for(lambda: self._failed is not None or self._closed, timeout=1.0)
                    self._check()
            raise network_failure(error) from error

    def _room(self, seconds: float) -> bool:
        """Whether more messages may come, waiting for that a while. Receipts come on the same line, so they must not wait."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._waiting_bytes < _MAX_WAITING or self._waiting_for_receipt > 0 or self._closed, timeout=seconds
            )


def open_session(address: Address, *, deadline: float, ended: Callable[[], bool]) -> Session:
    """Log on to the first host that takes it. Raises `SessionFailed` before ``deadline``, or when ``ended`` becomes true."""
    try:
        context = address.context()
    except OSError as error:
        raise SessionFailed(
            f"cannot use ca={address.ca!r}, cert={address.cert!r}, key={address.key!r}: {error}",
            remedy="each certificate or key is a PEM file that this user may read",
            refused=True,
        ) from error
    failed = SessionFailed("no host")
    for number, (host, port) in enumerate(address.hosts):
        now = time.monotonic()
        until = now + (deadline - now) / (len(address.hosts) - number)
        try:
            return _open(address, (host, port), context, deadline=until, ended=ended)
        except SessionFailed as error:
            if error.refused or ended():
                raise
            failed = SessionFailed(f"{host}:{port}: {error.reason}", remedy=error.remedy)
    raise failed


def _open(
    address: Address, where: tuple[str, int], context: ssl.SSLContext | None, *, deadline: float, ended: Callable[[], bool]
) -> Session:
    try:
        wire = open_wire(*where, context, deadline=deadline, ended=ended)
    except socket.gaierror as error:
        raise SessionFailed(f"no such host: {error.strerror}", remedy="see the host in the URL, and the name server") from error
    except OSError as error:
        raise network_failure(error) from error
    session = Session(wire, address)
    try:
        session.log_on(address, where[0], deadline=deadline, ended=ended)
    except BaseException:
        session.close()
        raise
    return session
