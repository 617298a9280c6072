"""TCP that does not wait: what has come is confirmed at once."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

#: Of Linux (tcp(7)): it lasts until the operating system next thinks better of it, so it is asked for again and again.
_QUICK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


def confirm_received(connection: socket.socket) -> None:
    """Confirm what has come. A server without TCP_NODELAY holds a small packet back until those before it are confirmed,
    and the operating system would let it wait for that (40 ms on Linux).
    """
    if _QUICK is not None:
        with contextlib.suppress(OSError):  # whoever reads or sends next is told
            connection.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)
