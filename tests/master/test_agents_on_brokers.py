"""A master and a real agent over every broker that has a server: commands go and results and events come through it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.gateway_agent.kit import agent
from tests.gateway_agent.on_brokers import write_configuration
from tests.master.gateways import until
from tests.master.processes import MasterProcess
from tests.servers.broker_server import Servers
from tests.servers.every import names

pytestmark = pytest.mark.slow


def variable(name: str) -> str:
    """Stands for the URL of a broker: everybody sets it for himself, as the master takes no passwords."""
    return f"{name.upper()}_URL"


@pytest.fixture(scope="module")
def process(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A master that reaches every broker."""
    made = MasterProcess(tmp_path_factory.mktemp("master"), "--heartbeat", "500ms", "--lease", "10s")
    with mock.patch.dict(os.environ, {variable(name): servers[name].url() for name in names()}):
        made.start()
        yield made
    assert made.stop() == 0


@pytest.mark.parametrize("name", names())
def test_commands_results_and_events_cross_a_network_that_fails(
    name: str, servers: Servers, process: MasterProcess, tmp_path: Path
) -> None:
    """Guarantee: a command that was sent while its gateway could not reach the broker is executed, once, when it can."""
    server, executed = servers[name], tmp_path / "executed"
    file, gateway = tmp_path / "gateway.toml", f"on-{name}"
    link = f'[master]\nurl = "{process.url}"\ntoken = "{process.token}"'
    driver = "tests.gateway_agent.probes:Actuator"
    write_configuration(file, gateway, {"main": f"${{{variable(name)}}}"}, channels={}, driver=driver, more=link)
    environment = {"EXECUTED": str(executed), variable(name): server.proxied_url()}
    with process.client() as client, agent(file, environment=environment) as running:
        until(lambda: client.devices(gateway=gateway), within=60)
        fan = client.device("fan-1", gateway=gateway)
        assert fan.command("on").result() == {"on": True}
        with fan.subscribe("state", timeout=30) as states:
            assert fan.command("on").result() == {"on": True}
            assert next(states)["value"] is True
            server.proxy.cut()
            sent = fan.command("set_speed", rpm=900, deadline=60)
            until(lambda: client.command(sent.id).state == "sent")
            server.proxy.restore()
            assert sent.result() == {"rpm": 900}
            assert fan.command("on").result() == {"on": True}
            assert next(states)["value"] is True
        assert running.terminate() == 0
    assert [line.split()[1] for line in executed.read_text().splitlines()] == ["on", "on", "set_speed", "on"]
