"""Servers for tests: started once a session, when a test first asks for one."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.servers.broker_server import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("servers"))
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a test that failed goes what servers said meanwhile."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if report.failed and isinstance(servers, Servers):
        report.sections += [(f"end of {log.name}", tail) for log, tail in servers.said_since(call.start)]
    return report
