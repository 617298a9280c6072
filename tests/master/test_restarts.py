"""SIGKILL of the master at any moment: nothing registered or recorded is lost, gateways and clients go on."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.client import Client
from master.client.changes import Change
from tests.master.gateways import Actuator, RpcGateway, broker_in, registration, state_message, until
from tests.master.processes import MasterProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def process(tmp_path: Path) -> Iterator[MasterProcess]:
    process = MasterProcess(tmp_path / "master", "--heartbeat", "300ms", "--lease", "1500ms")
    process.start()
    yield process
    process.stop()


def test_what_is_registered_survives_sigkill_and_gateways_come_back(process: MasterProcess, tmp_path: Path) -> None:
    broker = broker_in(tmp_path)
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("g", broker, epoch=3, labels={"line": "1"}))
    gateway.heartbeat("g", epoch=3, devices=("pump", "valve"))
    with process.client() as client:
        before = (client.devices(), client.channels(), client.applications(), client.topics())
        for _ in range(3):
            process.kill()
            process.start()
            assert (client.devices(), client.channels(), client.applications(), client.topics()) == before
        again = RpcGateway(process.url, process.token)
        again.register(registration("g", broker, epoch=3, labels={"line": "1"}))
        again.heartbeat("g", epoch=3, devices=("pump", "valve"))
        assert client.gateways()[0].state == "online"
        with process.http() as http:
            actions = [entry["action"] for entry in http.get("/api/v1/audit").json()]
        assert actions.count("register") == 2
        again.close()


def test_commands_and_their_steps_survive_sigkill_and_each_is_executed_once(process: MasterProcess, tmp_path: Path) -> None:
    """The master is killed again and again while orders come in; every order it has accepted ends as done, once."""
    broker = broker_in(tmp_path)
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("g", broker))
    gateway.heartbeat("g", devices=("pump",))
    actuator = Actuator("g", broker, lambda command: ("done", command.args))
    sent: dict[str, float] = {}
    stop = threading.Event()

    def order() -> None:
        with process.client() as client:
            device = client.device("pump")
            rpm = 0
            while not stop.is_set():
                rpm += 1
                try:
                    sent[device.command("set_speed", rpm=rpm, deadline=120).id] = rpm
                except Exception:
                    # Refused while it was down: nothing is known of this one, and nothing is promised.
                    continue

    ordering = threading.Thread(target=order)
    ordering.start()
    try:
        for count in (5, 15, 25):
            until(lambda count=count: len(sent) >= count)
            process.kill()
            process.start()
    finally:
        stop.set()
        ordering.join(60)
    with process.client() as client:
        for id, rpm in sent.items():  # noqa: A001
            until(lambda id=id: client.command(id).final)  # noqa: A006
            command = client.command(id)
            assert (command.state, json.loads(command.detail)) == ("done", {"rpm": rpm})
    executed = [command.id for command in actuator.executed]
    assert len(executed) == len(set(executed))
    assert set(sent) <= set(executed)
    actuator.close()
    gateway.close()


def test_results_that_arrive_while_the_master_is_down_are_read_when_it_is_back(process: MasterProcess, tmp_path: Path) -> None:
    import brokers

    broker = broker_in(tmp_path)
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("g", broker))
    publisher = brokers.connect(broker).publisher()
    ids = [f"00000000-0000-7000-8000-{number:012}" for number in range(300)]
    for number, id in enumerate(ids):  # noqa: A001
        publisher.publish([state_message(id, "g", "pump", "accepted"), state_message(id, "g", "pump", "done")])
        if number in {100, 200}:
            process.kill()
            process.start()
    publisher.close()
    with process.http() as http:
        until(lambda: len(http.get("/api/v1/commands", params={"state": "done"}).json()["items"]) == len(ids))
        steps = sum(len(http.get(f"/api/v1/commands/{one}/states").json()) for one in ids)
    assert steps == 2 * len(ids), "none is lost and none is recorded twice"
    gateway.close()


def test_a_watcher_goes_on_across_a_sigkill_without_loss(process: MasterProcess, tmp_path: Path) -> None:
    broker = broker_in(tmp_path)
    names = [f"g{number}" for number in range(6)]
    seen: list[Change] = []
    done = threading.Event()

    def follow(client: Client) -> None:
        for change in client.watch(kinds=["gateway"]):
            seen.append(change)
            if (change.action, change.gateway) == ("added", names[-1]):
                done.set()
                return

    with process.client() as client:
        watching = threading.Thread(target=follow, args=(client,), daemon=True)
        watching.start()
        until(lambda: seen)
        for number, name in enumerate(names):
            if number in {2, 4}:
                process.kill()
                process.start()
            gateway = RpcGateway(process.url, process.token)
            gateway.register(registration(name, broker))
            gateway.close()
        assert done.wait(60)
    added = [change.gateway for change in seen if change.action == "added"]
    assert added == names
    numbers = [change.number for change in seen]
    assert numbers == sorted(set(numbers))


def test_a_gateway_that_falls_silent_is_lost_and_told_so_for_real(process: MasterProcess, tmp_path: Path) -> None:
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("g", broker_in(tmp_path)))
    gateway.heartbeat("g", devices=("pump",))
    with process.client() as client:
        changes = client.watch("gateway=g", kinds=["gateway", "channel"], after=0)
        states = []
        for change in changes:
            if change.kind == "gateway" and change.value:
                states.append(change.value["state"])
            if states[-1:] == ["lost"]:
                break
        assert states == ["online", "suspect", "lost"]
        assert not client.channels()[0].available
        assert not client.device("pump").info.available
        gateway.heartbeat("g", devices=("pump",))
        assert client.channels()[0].available


def test_a_master_that_was_stopped_for_longer_than_a_lease_blames_nobody(process: MasterProcess, tmp_path: Path) -> None:
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("g", broker_in(tmp_path)))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.2):
            gateway.heartbeat("g")

    beating = threading.Thread(target=beat)
    beating.start()
    assert process._process is not None
    process._process.send_signal(signal.SIGSTOP)
    threading.Event().wait(4.0)
    process._process.send_signal(signal.SIGCONT)
    with process.client() as client:
        until(lambda: client.gateways()[0].seen_time > client.gateways()[0].registered_time + 4_000_000)
        with process.http() as http:
            details = [entry["detail"] for entry in http.get("/api/v1/audit", params={"subject": "gateway/g"}).json()]
    stop.set()
    beating.join(20)
    assert "lost" not in details
    gateway.close()
