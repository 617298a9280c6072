"""Servers to be asked on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.kestrel import KestrelServer
from tests.servers.kestrel.wire import Start, Wire


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, each in the directory of this test."""
    started: list[KestrelServer] = []

    def start(*arguments: str) -> KestrelServer:
        server = KestrelServer(tmp_path, *arguments)
        started.append(server)
        server.process.start()
        return server

    yield start
    for server in started:
        server.process.stop()
        server.proxy.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KestrelServer]:
    """One for all tests that need nothing particular."""
    server = KestrelServer(tmp_path_factory.mktemp("kestrel"), "--max-open-reads", "3")
    server.process.start()
    yield server
    server.process.stop()
    server.proxy.close()


@pytest.fixture
def wire(server: KestrelServer) -> Iterator[Wire]:
    with closing(Wire(server)) as wire:
        wire.ask("flush_all")
        yield wire


@pytest.fixture
def other(server: KestrelServer) -> Iterator[Wire]:
    with closing(Wire(server)) as wire:
        yield wire
