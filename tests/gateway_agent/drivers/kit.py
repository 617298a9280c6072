"""Making drivers from the text of their settings, as the agent does."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from gateway_agent.driver import Driver
from gateway_agent.find import find_driver, make_driver

ROOT = Path(__file__).parents[3]
WSN = ROOT / "examples/demo/data/wsn/single-hop.csv"
CAPTURES = ROOT / "tests/data/serial"


def make(name: str, toml: str) -> Driver[Any]:
    return make_driver(find_driver(name), tomllib.loads(toml), origin="gateway.toml", application="it")


def refusal(name: str, toml: str) -> str:
    """Why settings are refused. Fails when they are not."""
    import pytest

    from schemas.errors import ConfigurationError

    with pytest.raises(ConfigurationError) as caught:
        make(name, toml)
    return str(caught.value)
