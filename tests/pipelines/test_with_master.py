"""What a job learns from a master, and keeps while the master is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from master.client import MasterUnavailable
from pipelines.command_brokers import MasterKnows
from pipelines.sources.discovery import Source
from pipelines.sources.selection import select
from schemas.errors import ConfigurationError
from tests.master.gateways import RpcGateway, registration
from tests.master.processes import MasterProcess


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterProcess]:
    process = MasterProcess(tmp_path / "master")
    process.start()
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("gw-1", f"local:{tmp_path}/log"))
    gateway.close()
    yield process
    process.stop()


def test_a_job_reads_what_the_master_said_last_while_it_is_away(master: MasterProcess, tmp_path: Path) -> None:
    state = tmp_path / "state"
    found = select(master.url, "site=plant-a", master.token, state=state)
    sources, schemas = found
    assert sources == (Source(f"local:{tmp_path}/log", ("plant-a.pumps.pressure", "plant-a.pumps.temperature")),)
    assert "iotcloud.Reading" in {schema.name for schema in schemas}
    master.kill()
    assert select(master.url, "site=plant-a", master.token, state=state) == found
    with pytest.raises(MasterUnavailable):
        select(master.url, "site=plant-b", master.token, state=state)
    with pytest.raises(MasterUnavailable):
        select(master.url, "site=plant-a", master.token)


def test_nothing_to_read_is_an_error(master: MasterProcess, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="knows no channel"):
        select(master.url, "site=elsewhere", master.token, state=tmp_path / "state")


def test_commands_go_through_the_broker_their_gateway_has_told_the_master(master: MasterProcess, tmp_path: Path) -> None:
    find = MasterKnows(master.url, master.token)
    assert find("gw-1") == f"local:{tmp_path}/log"
    with pytest.raises(ConfigurationError, match="gw-2"):
        find("gw-2")
    master.kill()
    assert find("gw-1") == f"local:{tmp_path}/log", "what it said last still holds"
    with pytest.raises(MasterUnavailable):
        find("gw-3")
