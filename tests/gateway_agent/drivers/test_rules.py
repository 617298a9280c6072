"""The drivers that come with the agent keep the rules, in their real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_agent.testing import Bench, DriverRules
from tests.gateway_agent.drivers.kit import CAPTURES, WSN


@pytest.mark.slow
class TestReplay(DriverRules):
    driver = "replay"
    finite = True

    def settings(self, folder: Path) -> dict[str, Any]:
        return {
            "file": str(WSN),
            "speed": 0,
            "device": "mote-{mote_id}",
            "time": {"start": "2010-05-09T00:00:00Z", "column": "reading", "first": 1, "step": "5s"},
            "channels": {"humidity": {"value": "humidity"}, "temperature": {"value": "temperature"}},
        }


@pytest.mark.slow
class TestSimulated(DriverRules):
    driver = "simulated"

    def settings(self, folder: Path) -> dict[str, Any]:
        return {"sensors": 2, "rate": 50, "fans": ["fan-1"]}

    def test_a_fan_stays_as_it_was_told_through_a_crash(self, tmp_path: Path) -> None:
        with Bench(tmp_path / "outbox", self.driver, {"fans": ["fan-1"]}) as bench:
            assert bench.execute("fan-1", "set_speed", {"rpm": 600}).step == "done"
            too_fast = bench.execute("fan-1", "set_speed", {"rpm": 99_999})
            assert too_fast.step == "failed"
            assert "rpm" in too_fast.detail
            bench.until(lambda: bench.state.get("wanted_rpm") == {"fan-1": 600.0})
            bench.kill()
            bench.until(lambda: [e["value"] for e in bench.events() if e["channel"] == "state"] == [False, True, True])


@pytest.mark.slow
class TestSerial(DriverRules):
    """What it reads is replayed into a pseudo-terminal by another driver."""

    driver = "serial"
    enough = 47
    player: Bench | None = None

    def settings(self, folder: Path) -> dict[str, Any]:
        return {"port": str(folder / "line"), "device": "ublox", "framing": ["nmea", "ubx"]}

    def start(self, folder: Path) -> None:
        self.player = Bench(
            folder / "player",
            "replay",
            {"format": "bytes", "file": str(CAPTURES / "pygpsdata-MIXED.log"), "link": str(folder / "line"), "rate": 100_000},
        )
        self.player.__enter__()

    @pytest.fixture(autouse=True)
    def ended(self):  # type: ignore[no-untyped-def]
        yield
        if self.player is not None:
            self.player.__exit__()
