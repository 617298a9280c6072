"""The bytes of an MQTT connection, in the pieces that its library asks for, over a real TCP connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from brokers.mqtt.stream import Stream


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=10)
        far, _ = listener.accept()
    far.settimeout(10)
    with near, far:
        yield Stream(near), far


def test_what_came_at_once_is_handed_out_in_any_pieces(ends: tuple[Stream, socket.socket]) -> None:
    stream, far = ends
    far.sendall(b"0123456789")
    assert stream.recv(1) == b"0"
    assert stream.pending() == 9
    assert stream.recv(4) == b"1234"
    assert stream.recv(100) == b"56789"
    assert stream.pending() == 0


def test_nothing_there_is_no_end(ends: tuple[Stream, socket.socket]) -> None:
    stream, far = ends
    stream.setblocking(False)
    with pytest.raises(BlockingIOError):
        stream.recv(1)
    far.close()
    stream.setblocking(True)
    assert stream.recv(1) == b""


def test_what_is_sent_together_goes_out_at_once(ends: tuple[Stream, socket.socket]) -> None:
    stream, far = ends
    with stream.together():
        for number in range(1_000):
            assert stream.send(b"%04d" % number) == 4
    came = b""
    while len(came) < 4_000:
        came += far.recv(65_536)
    assert came == b"".join(b"%04d" % number for number in range(1_000))
