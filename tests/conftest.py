"""Settings of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers.fixtures"]

# Deadlines of single examples say more about the machine than about the code.
settings.register_profile("iotcloud", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `./dev test --fast` asks for this one.
settings.register_profile("fast", settings.get_profile("iotcloud"), max_examples=20)
settings.load_profile("iotcloud")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command line that a test calls within this process sets up logging; the next test has its own again."""
    yield
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Fast tests first: what fails, fails early. Whoever needs a server is slow: it has to be installed and started."""
    for item in items:
        if "servers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    yield
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
