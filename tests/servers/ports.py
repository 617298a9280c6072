"""Ports of this machine's loopback interface."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that nobody listens on now. Whoever wants it should take it soon."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether somebody accepts connections on ``port``."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
