"""SIGTERM and SIGINT as an event that threads wait for."""

from __future__ import annotations

import signal
import threading
from queue import SimpleQueue


def set_by_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; called by the main thread of a command line.

    A handler runs in the main thread, perhaps while that holds the event's lock within ``wait``: if it set the event
    itself, it would wait for itself for ever. `SimpleQueue.put` may interrupt anything.
    """
    stopping = threading.Event()
    received: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: received.put(caught))

    def pass_on() -> None:
        received.get()
        stopping.set()

    threading.Thread(target=pass_on, name="signals", daemon=True).start()
    return stopping
