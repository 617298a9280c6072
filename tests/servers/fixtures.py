"""Servers for tests: started once a session, when a test first asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.broker_server import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("servers"))
    yield made
    made.close()
