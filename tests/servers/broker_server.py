"""What tests ask of a broker's server."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, cast

from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

#: Lines of a server's log that are told with a test that failed.
_TOLD: Final = 60


class BrokerServer(Protocol):
    """A server that is made and not started, with a proxy before it."""

    process: ServerProcess
    proxy: TcpProxy

    def url(self, **options: str) -> str:
        """For `brokers.connect`."""

    def proxied_url(self, **options: str) -> str:
        """The same through the proxy."""

    def wrong_password_url(self) -> str | None:
        """None where this server checks no password."""

    def tls_url(self) -> str | None:
        """None where this server has no TLS."""

    def untrusted_tls_url(self) -> str | None:
        """Of a client that trusts another authority than the server's."""


class Servers:
    """Servers by the name of their folder, each started when it is first asked for and shared from then on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, BrokerServer] = {}

    def __getitem__(self, name: str) -> BrokerServer:
        """The server, running and reachable, whatever was done to it before. Raises `ServerFailed`."""
        server = self._made.get(name)
        if server is None:
            server = self._made[name] = make(name, self._directory / name)
        server.proxy.restore()
        if not server.process.running:
            server.process.start()
        return server

    def said_since(self, moment: float) -> list[tuple[Path, str]]:
        """The logs that were written after ``moment`` (seconds since 1970), and their last lines."""
        logs = [log for log in sorted(self._directory.glob("*/*.log")) if log.stat().st_mtime >= moment]
        return [(log, "\n".join(log.read_text(errors="replace").splitlines()[-_TOLD:])) for log in logs]

    def close(self) -> None:
        for server in self._made.values():
            server.process.stop()
            server.proxy.close()


@contextmanager
def started(name: str, directory: Path) -> Iterator[BrokerServer]:
    """`make`, started, and ended with the block. Raises `ServerFailed`."""
    server = make(name, directory)
    server.process.start()
    try:
        yield server
    finally:
        server.process.stop()
        server.proxy.close()


def make(name: str, directory: Path) -> BrokerServer:
    """The server in the folder ``name``, with its data in ``directory``, installed and not started. Raises `ServerFailed`."""
    directory.mkdir(parents=True, exist_ok=True)
    return cast("BrokerServer", importlib.import_module(f"tests.servers.{name}").make(directory))
