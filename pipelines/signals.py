"""SIGTERM and SIGINT, as a job takes them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """Counts SIGTERM and SIGINT: the first drains, the second cancels."""

    def __init__(self) -> None:
        self.received = 0

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received += 1

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals within; nothing is done outside of the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
