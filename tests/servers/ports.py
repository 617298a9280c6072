"""Ports of this machine's loopback interface."""

from __future__ import annotations

import random
import socket
from typing import Final

#: Below those that outgoing connections are given (Linux, ip_local_port_range: 32768 on). A server that is killed and started
#: again finds its port free, and no client that tries the port meanwhile is connected with itself.
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 100
#: One for each port that was given out. They end with this process.
_RESERVATIONS: Final[list[socket.socket]] = []


def free_port() -> int:
    """A port that nobody listens on now, and that no other call of this gives while this process lives.

    So it stays its server's also when that is not started yet, or killed.
    """
    for port in random.sample(_PORTS, _TRIES):
        if _nobody_listens(port) and (reservation := _reserve(port)) is not None:
            _RESERVATIONS.append(reservation)
            return port
    raise OSError(f"none of {_TRIES} ports from {_PORTS.start} to {_PORTS.stop - 1} is free")


def listening(port: int) -> bool:
    """Whether somebody accepts connections on ``port``."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def _nobody_listens(port: int) -> bool:
    with socket.socket() as listener:
        # As servers do: the remains of connections do not keep one from listening.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _reserve(port: int) -> socket.socket | None:
    """A name that the kernel gives to one socket only, and takes back when its process ends (Linux, unix(7): abstract)."""
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reservation.bind(f"\0iotcloud-test-port-{port}")
    except OSError:
        reservation.close()
        return None
    return reservation
