"""Looking up the addresses of a host within a deadline, which the system's own resolver does not know."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

#: Seconds between looks at whether the caller wants to end.
_LOOK_EVERY: Final = 0.1

#: Family, kind and protocol of a socket, and the address to connect it to.
Address = tuple[int, int, int, Any]


def addresses_of(host: str, port: int, *, deadline: float, ended: Callable[[], bool]) -> list[Address]:
    """Where to connect by TCP, the best first. ``deadline`` is of `time.monotonic`.

    Raises `socket.gaierror`, `TimeoutError` at the deadline, and `ConnectionAbortedError` when ``ended`` becomes true; a
    thread then goes on until the system gives up.
    """
    try:
        # Numbers are no question for a name server.
        return _looked_up(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(_looked_up(host, port, 0))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=look_up, name=f"resolving-{host}", daemon=True).start()
    while not ended():
        left = deadline - time.monotonic()
        try:
            answer = answers.get(timeout=max(0.0, min(left, _LOOK_EVERY)))
        except queue.Empty:
            if left <= 0:
                raise TimeoutError(f"no name server has said by the deadline where {host} is") from None
            continue
        if isinstance(answer, OSError):
            raise answer
        return answer
    raise ConnectionAbortedError("closed")


def _looked_up(host: str, port: int, flags: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "this is no name of a host") from None
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]
