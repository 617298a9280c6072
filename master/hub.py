"""Waking those that wait for something new in the database: watchers, and requests that wait for a command's state."""

from __future__ import annotations

import asyncio


class Hub:
    """Belongs to one event loop; `notify` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.closing = False
        #: How many clients follow the stream of changes.
        self.watchers = 0

    def notify(self) -> None:
        """Something has been committed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def close_soon(self) -> None:
        """`close`, from a signal handler."""
        self._loop.call_soon_threadsafe(self.close)

    def close(self) -> None:
        """Wake everybody for good: the server is going down. Called on the loop."""
        self.closing = True
        self._wake()

    def ticket(self) -> asyncio.Event:
        """Take one before looking at the database, then wait on it: what is committed in between is not missed."""
        return self._event

    async def wait(self, ticket: asyncio.Event, seconds: float) -> bool:
        """Whether there was news before ``seconds`` had passed."""
        try:
            await asyncio.wait_for(ticket.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._event.set()
        if not self.closing:
            self._event = asyncio.Event()
