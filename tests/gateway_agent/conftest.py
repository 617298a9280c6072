"""Configurations of agents in directories of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

_CONFIG = """
[gateway]
id = "gw-1"
site = "site"
data_dir = "data"

[transports.main]
url = "local:{broker}"
{more}
"""


@pytest.fixture
def broker_url(tmp_path: Path) -> str:
    return f"local:{tmp_path / 'broker'}"


@pytest.fixture
def configuration(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration with one transport and what it is given, and returns its path."""

    def write(more: str) -> Path:
        file = tmp_path / "gateway.toml"
        file.write_text(_CONFIG.format(broker=tmp_path / "broker", more=more))
        return file

    return write
