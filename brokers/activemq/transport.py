"""stomp.py's receiving side on a `Wire`, with signs of life both ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from stomp.transport import BaseTransport  # type: ignore[import-untyped,import-not-found,unused-ignore]

from brokers.activemq.wire import Wire

#: Seconds between looks at what is due.
_TURN: Final = 1.0
#: Seconds to get one byte out.
_BEAT_SECONDS: Final = 2.0
#: The server is taken for dead after so many of its intervals without a byte.
_SILENT_INTERVALS: Final = 2.5


def _newlines(data: bytes) -> bool:
    return bool(data) and not data.strip(b"\n")


class WireTransport(BaseTransport):  # type: ignore[misc,unused-ignore]
    """Parses what comes and tells its listeners, in a thread that `start` begins. Sends what it is given.

    stomp.py's own heart-beats count whole frames, so that a large one on a slow line looks like silence; here every
    byte counts. ``room(seconds)`` waits for room for more and says whether there is.
    """

    def __init__(self, wire: Wire, room: Callable[[float], bool]) -> None:
        super().__init__(auto_decode=False, is_eol_fc=_newlines)
        self._wire = wire
        self._room = room
        self._held = b""
        self._interval = 0.0
        self._silence = 0.0
        self._heard_at = 0.0
        #: Why nothing comes any more.
        self.failure: OSError | None = None

    def beat(self, send: float, receive: float) -> None:
        """The intervals both sides agreed on, in seconds; 0 for none."""
        self._heard_at = time.monotonic()
        self._interval = send / 2
        self._silence = receive * _SILENT_INTERVALS

    def receive(self) -> bytes:
        """Called by stomp.py for more bytes; empty at the end."""
        if data := self._held:
            self._held = b""
            return data
        try:
            return self._without_leading_newlines(self._next())
        except OSError as error:
            self.failure = error
            return b""

    def send(self, encoded_frame: bytes) -> None:
        self._wire.send(encoded_frame, deadline=time.monotonic() + _BEAT_SECONDS)

    def cleanup(self) -> None:
        self._wire.release()

    def disconnect_socket(self) -> None:
        self._wire.close()

    def _next(self) -> bytes:
        turn = min(_TURN, self._interval or _TURN)
        while True:
            if self._room(turn):
                data = self._wire.receive(turn)
                if data is not None:
                    self._heard_at = time.monotonic()
                    return data
                if self._silence and time.monotonic() - self._heard_at > self._silence:
                    raise TimeoutError(f"nothing came from the server for {self._silence:.1f} s")
            if self._interval and time.monotonic() - self._wire.sent_at >= self._interval and not self._wire.busy:
                self.send(b"\n")

    def _without_leading_newlines(self, data: bytes) -> bytes:
        """``data``, or the newlines it begins with while the rest waits.

        Two newlines before a frame (heart-beats) would be taken by stomp.py for the end of its headers.
        """
        rest = data.lstrip(b"\n")
        if rest and len(rest) < len(data):
            self._held = rest
            return data[: -len(rest)]
        return data
