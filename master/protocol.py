"""HTTP/1.1 by uvicorn, with a deadline for the head of a request, which uvicorn does not have.

Without one a client that sends its headers a byte at a time holds a connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from the first byte of a request, or the connection, to the end of its headers.
HEAD_WITHIN: Final = 15.0


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose request has no complete head in time."""

    head_within: float = HEAD_WITHIN
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.head_within, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._disarm()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_within, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self._deadline = None
        # A request that is being answered has had its head; what waits then is the next one.
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
