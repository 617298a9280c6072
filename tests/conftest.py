"""Settings of the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers.fixtures"]

# Deadlines of single examples say more about the machine than about the code.
settings.register_profile("iotcloud", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("iotcloud")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: what fails, fails early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
