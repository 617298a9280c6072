"""The proxy of the tests fails as it is told to, and only then."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.servers.proxy import TcpProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[TcpProxy]:
    made = TcpProxy(echo)
    yield made
    made.close()


def through(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(1 << 16)
        assert more
        data += more
    return data


def test_it_passes_everything_on(proxy: TcpProxy) -> None:
    body = bytes(range(256)) * 20_000
    with through(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(body,))
        sender.start()
        assert receive(connection, len(body)) == body
        sender.join()


def test_cut_connections_are_reset_and_new_ones_refused_until_it_is_restored(proxy: TcpProxy) -> None:
    with through(proxy) as connection:
        connection.sendall(b"1")
        assert receive(connection, 1) == b"1"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    # The reset may come as soon as the connection is there.
    with pytest.raises(ConnectionResetError), through(proxy) as connection:
        connection.recv(1)
    proxy.restore()
    with through(proxy) as connection:
        connection.sendall(b"3")
        assert receive(connection, 1) == b"3"


def test_a_hanging_network_accepts_and_answers_nothing(proxy: TcpProxy) -> None:
    with through(proxy) as before:
        before.sendall(b"1")
        assert receive(before, 1) == b"1"
        proxy.hang()
        with through(proxy) as during:
            for connection in (before, during):
                connection.sendall(b"2")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            proxy.restore()
            before.settimeout(10)
            assert receive(before, 1) == b"2"
