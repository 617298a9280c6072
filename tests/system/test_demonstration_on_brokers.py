"""The demonstration proves itself over every broker: `./dev demo --broker NAME`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import every
from tests.system.demonstration import finish, start
from tests.system.test_demonstration import KILLS, check, kill_in_turn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.mark.parametrize("broker", every.names())
def test_the_demonstration_holds_over_a_real_broker(tmp_path: Path, broker: str) -> None:
    check(*finish(start(tmp_path / "out", "--broker", broker, "--speed", "2000"), timeout=300))


@pytest.mark.parametrize("broker", every.names()[:2])
def test_kills_lose_nothing_over_a_real_broker(tmp_path: Path, broker: str) -> None:
    demonstration = start(tmp_path / "out", "--broker", broker, "--speed", "500")
    hits = kill_in_turn(demonstration, rounds=2, seed=3)
    check(*finish(demonstration, timeout=300))
    assert all(hits[kind] >= 1 for kind in KILLS), hits
