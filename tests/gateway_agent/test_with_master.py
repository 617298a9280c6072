"""A gateway and the real master: registration, commands there and back, and either of them dying."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from master.client import Client
from master.client.errors import MasterError
from tests.gateway_agent.kit import ROOT, agent, eventually
from tests.servers.ports import free_port

pytestmark = pytest.mark.slow


@contextmanager
def master(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "master", "--data", str(folder), "--port", str(port), "--heartbeat", "0.3", "--lease", "1.5"]
    with (folder.parent / "master.log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def state_of(client: Client) -> str:
    try:
        return next((gateway.state for gateway in client.gateways() if gateway.gateway == "gw-1"), "unknown")
    except MasterError:
        return "no master"


def test_a_gateway_registers_executes_commands_and_outlives_its_master(
    configuration: Callable[[str], Path], tmp_path: Path
) -> None:
    """Guarantee: the agent runs without a master, finds it again by itself, and is found again after its own death."""
    port = free_port()
    data = tmp_path / "master"
    file = configuration(
        f"""
        [master]
        url = "http://127.0.0.1:{port}"
        token = "file:{data / "token"}"
        [applications.cooling]
        driver = "tests.gateway_agent.probes:Actuator"
        """
    )
    environment = {"EXECUTED": str(tmp_path / "executed")}
    with agent(file, environment=environment) as running:
        running.wait_for("cooling", "running")
        with master(data, port):
            eventually((data / "token").exists)
            client = Client(f"http://127.0.0.1:{port}", f"file:{data / 'token'}")
            eventually(lambda: state_of(client) == "online")
            eventually(lambda: [device.device for device in client.devices()] == ["fan-1"])
            fan = client.device("fan-1")
            assert fan.command("on", deadline=20).result() == {"on": True}
            assert fan.command("set_speed", rpm=900, deadline=20).result() == {"rpm": 900}
            epoch = client.gateways()[0].epoch
        eventually(lambda: (s := running.status()) and s["control"]["state"] == "connecting")
        with master(data, port):
            eventually(lambda: state_of(client) == "online")
            running.kill()
            eventually(lambda: state_of(client) == "lost")
            with agent(file, environment=environment):
                eventually(lambda: state_of(client) == "online")
                assert client.gateways()[0].epoch > epoch
                eventually(lambda: client.device("fan-1").command("on", deadline=20).result() == {"on": True})
