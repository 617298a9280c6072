"""One master for the tests that neither stop nor fill it; each makes gateways of its own names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from master.client import Client
from tests.master.gateways import RpcGateway, broker_in
from tests.master.processes import MasterProcess

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    process = MasterProcess(tmp_path_factory.mktemp("master"), "--lease", "60s")
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="package")
def http(master: MasterProcess) -> Iterator[httpx.Client]:
    with master.http() as client:
        yield client


@pytest.fixture(scope="package")
def client(master: MasterProcess) -> Iterator[Client]:
    with master.client() as client:
        yield client


@pytest.fixture
def broker_url(tmp_path: Path) -> str:
    return broker_in(tmp_path)


@pytest.fixture
def name() -> str:
    """A name for a gateway, a site or a device that no other test uses."""
    return f"n{next(_numbers)}"


@pytest.fixture
def connect(master: MasterProcess) -> Iterator[Callable[[], RpcGateway]]:
    """Opens connections of gateways, closed after the test."""
    opened: list[RpcGateway] = []

    def open_one() -> RpcGateway:
        opened.append(RpcGateway(master.url, master.token))
        return opened[-1]

    yield open_one
    for gateway in opened:
        gateway.close()
