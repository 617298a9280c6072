"""How a process hears that it is to end: signals as an event that threads wait for, and the death of its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from queue import SimpleQueue
from typing import Final

#: prctl(2): the signal that a process gets when the thread that made it ends. It stays over exec.
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


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


def die_with_parent(parent: int = 0) -> None:
    """The kernel kills this process when its parent dies (Linux). Fit for between fork and exec: a call into libc, no import.

    ``parent``, where it is known, is the process that should be the parent: if it died before this, so does this process.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(1)
