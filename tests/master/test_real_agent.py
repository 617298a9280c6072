"""The real agent with a real driver: it registers, its devices appear, take commands, and are missed when it dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.client import Client
from tests.master.gateways import broker_in, until
from tests.master.processes import ROOT, MasterProcess

pytestmark = pytest.mark.slow


class Agent:
    """A gateway agent with two sensors and a fan."""

    def __init__(self, directory: Path, master: MasterProcess) -> None:
        self._log = directory / "agent.log"
        self._configuration = directory / "gateway.toml"
        self._configuration.write_text(
            f"""
[gateway]
id = "gw-1"
site = "plant-a"
data_dir = "{directory / "gateway"}"
labels = {{ hall = "2" }}
[transports.main]
url = "{broker_in(directory)}"
[master]
url = "{master.url}"
token = "file:{master.directory / "token"}"
[applications.building]
driver = "simulated"
[applications.building.settings]
sensors = 2
rate = 10
fans = ["fan-1"]
"""
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway_agent", "run", str(self._configuration)], cwd=ROOT, stderr=log
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[MasterProcess]:
    process = MasterProcess(tmp_path / "master", "--heartbeat", "500ms", "--lease", "2s")
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture
def agent(tmp_path: Path, process: MasterProcess) -> Iterator[Agent]:
    agent = Agent(tmp_path, process)
    agent.start()
    yield agent
    agent.stop()


def _devices(client: Client) -> list[str]:
    return [device.device for device in client.devices(site="plant-a", label="hall:2")]


def test_devices_appear_are_read_and_commanded_across_kills_of_both(process: MasterProcess, agent: Agent) -> None:
    with process.client() as client:
        until(lambda: _devices(client) == ["fan-1", "sensor-1", "sensor-2"], within=60)
        fan, sensor = client.device("fan-1"), client.device("sensor-1")
        with sensor.subscribe("temperature", timeout=20) as temperatures:
            first = next(temperatures)
        assert first["device"] == "sensor-1"

        fan.command("set_speed", rpm=900, deadline=30).result()
        with fan.subscribe("rpm", timeout=20) as speeds:
            assert any(event["value"] > 100 for event in speeds)

        process.kill()
        process.start()
        fan.command("off", deadline=60).result()
        epoch = client.gateways()[0].epoch
        until(lambda: client.gateways()[0].state == "online" and client.device("fan-1").info.available)

        agent.kill()
        until(lambda: client.gateways()[0].state == "lost")
        assert not client.device("fan-1").info.available
        sent = fan.command("on", deadline=60)
        agent.start()
        sent.result()
        until(lambda: client.gateways()[0].epoch > epoch)
        assert client.gateways()[0].state == "online"
        assert client.device("fan-1").info.available


def test_the_master_asks_the_agent_how_it_is(process: MasterProcess, agent: Agent) -> None:
    with process.http() as http:
        until(lambda: http.get("/api/v1/gateways/gw-1/ping").status_code == 200, within=60)
        status = http.get("/api/v1/gateways/gw-1/status")
        assert status.status_code == 200, status.text
        assert isinstance(status.json(), dict)
        assert http.get("/api/v1/gateways/gw-1/list").status_code == 200
