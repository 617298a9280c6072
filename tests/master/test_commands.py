"""Commands go through the broker to the gateway, and their steps come back, whoever has sent them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import httpx
import pytest

import brokers
from master.client import Client, CommandFailed, CommandPending, MasterRefused
from schemas.command import Command, Step
from tests.master.gateways import Actuator, RpcGateway, registration, state_message, until

Connect = Callable[[], RpcGateway]
Act = Callable[[Command], tuple[Step, str]]


@pytest.fixture
def actuator(connect: Connect, broker_url: str, name: str) -> Iterator[Callable[[Act], Actuator]]:
    """A gateway with one device, named like it with ``-pump``, that executes commands."""
    opened: list[Actuator] = []

    def make(act: Act) -> Actuator:
        gateway = connect()
        gateway.register(registration(name, broker_url))
        gateway.heartbeat(name, devices=(f"{name}-pump",))
        opened.append(Actuator(name, broker_url, act))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def _echo(command: Command) -> tuple[Step, str]:
    return "done", json.dumps({"rpm": json.loads(command.args).get("rpm")})


def test_a_command_is_executed_once_and_its_steps_are_told_in_order(
    actuator: Callable[[Act], Actuator], client: Client, name: str
) -> None:
    device = actuator(_echo)
    sent = client.device(f"{name}-pump").command("set_speed", rpm=900, deadline=20)
    assert UUID(sent.id).version == 7
    states = [step.state for step in sent.states()]
    assert [state for state in states if state != "sent"] == ["issued", "accepted", "started", "done"]
    assert sent.result() == {"rpm": 900}
    (executed,) = device.executed
    assert (executed.id, executed.gateway, executed.device, executed.name) == (sent.id, name, f"{name}-pump", "set_speed")
    assert json.loads(executed.args) == {"rpm": 900}
    assert executed.deadline - executed.issued_at == 20_000_000
    shown = client.command(sent.id)
    assert (shown.state, shown.final, shown.args) == ("done", True, {"rpm": 900})


def test_a_command_that_fails_says_why(actuator: Callable[[Act], Actuator], client: Client, name: str) -> None:
    actuator(lambda _: ("failed", "the motor is jammed"))
    sent = client.device(f"{name}-pump").command("stop")
    with pytest.raises(CommandFailed, match="the motor is jammed") as failure:
        sent.result()
    assert failure.value.state == "failed"


def test_a_command_without_an_answer_is_pending_and_says_so(connect: Connect, client: Client, broker_url: str, name: str) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url))
    gateway.heartbeat(name, devices=(f"{name}-pump",))
    sent = client.device(f"{name}-pump").command("stop")
    with pytest.raises(CommandPending) as pending:
        sent.result(timeout=0.3)
    assert pending.value.state in {"issued", "sent"}


def test_the_same_id_is_the_same_command(
    actuator: Callable[[Act], Actuator], http: httpx.Client, client: Client, name: str
) -> None:
    device = actuator(_echo)
    order = {"name": "set_speed", "args": {"rpm": 5}, "id": str(uuid4())}
    path = f"/api/v1/devices/{name}-pump/commands"
    first = http.post(path, json=order)
    until(lambda: client.command(order["id"]).final)  # type: ignore[arg-type]
    second = http.post(path, json=order)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["state"] == "done"
    assert len(device.executed) == 1
    other = http.post(path, json={**order, "args": {"rpm": 6}})
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("order", "status", "reason"),
    [
        ({"name": "fly"}, 404, "takes no command 'fly'"),
        ({"name": "set_speed"}, 422, "'rpm' is a required property"),
        ({"name": "set_speed", "args": {"rpm": 9000}}, 422, "rpm: 9000 is greater than the maximum"),
        ({"name": "stop", "deadline": 0}, 422, "deadline"),
        ({"name": "stop", "deadline": -5}, 422, "deadline"),
        ({"name": "stop", "id": "one"}, 422, "not a UUID"),
        ({"name": "stop", "args": {"text": "ä" * 40_000}}, 422, "args are 80"),
        ({"name": "stop", "args": [1]}, 400, "args"),
        ({}, 400, "name"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused_and_nothing_is_sent(
    actuator: Callable[[Act], Actuator],
    http: httpx.Client,
    name: str,
    order: dict[str, object],
    status: int,
    reason: str,
) -> None:
    actuator(_echo)
    answer = http.post(f"/api/v1/devices/{name}-pump/commands", json=order)
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["detail"]
    assert http.get("/api/v1/commands", params={"device": f"{name}-pump"}).json()["items"] == []


def test_an_unknown_device_is_a_404_that_names_the_nearest(
    actuator: Callable[[Act], Actuator], http: httpx.Client, client: Client, name: str
) -> None:
    actuator(_echo)
    assert http.post(f"/api/v1/devices/{name}-pmp/commands", json={"name": "stop"}).status_code == 404
    with pytest.raises(MasterRefused, match=f"did you mean '{name}-pump'"):
        client.device(f"{name}-pmp")


def test_a_device_that_two_gateways_have_must_be_named_with_its_gateway(
    connect: Connect, http: httpx.Client, broker_url: str, name: str
) -> None:
    for number in (1, 2):
        gateway = connect()
        gateway.register(registration(f"{name}-{number}", broker_url, site=name))
        gateway.heartbeat(f"{name}-{number}", devices=(f"{name}-pump",))
    path = f"/api/v1/devices/{name}-pump/commands"
    assert http.post(path, json={"name": "stop"}).status_code == 409
    answer = http.post(path, json={"name": "stop", "gateway": f"{name}-2"})
    assert (answer.status_code, answer.json()["gateway"]) == (202, f"{name}-2")
    listed = [http.get("/api/v1/commands", params={"site": site}).json()["items"] for site in (name, "elsewhere")]
    assert [[one["gateway"] for one in items] for items in listed] == [[f"{name}-2"], []]


def test_steps_of_commands_that_pipelines_sent_are_recorded_too(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    connect().register(registration(name, broker_url))
    publisher = brokers.connect(broker_url).publisher()
    id = str(uuid4())  # noqa: A001
    accepted, done = (state_message(id, name, "fan", step) for step in ("accepted", "done"))
    publisher.publish([accepted, done, accepted, done, brokers.Message(accepted.topic, id, b"rubbish")])
    publisher.publish([state_message(str(uuid4()), name, "fan", "expired")])
    publisher.close()
    until(lambda: _known(client, id) and client.command(id).final)
    shown = client.command(id)
    assert (shown.name, shown.args, shown.state, shown.device) == (None, None, "done", "fan")
    steps = client._http.get(f"/commands/{id}/states", list[dict[str, object]])
    assert [step["state"] for step in steps] == ["accepted", "done"], "a step read twice is one step; rubbish is passed over"


def _known(client: Client, id: str) -> bool:  # noqa: A002
    try:
        client.command(id)
    except MasterRefused:
        return False
    return True


@pytest.mark.slow
def test_a_broker_that_is_down_holds_up_neither_the_interface_nor_other_brokers(
    connect: Connect, actuator: Callable[[Act], Actuator], http: httpx.Client, client: Client, tmp_path: object, name: str
) -> None:
    """A broker address behind which nobody answers: a file where the directory should be."""
    from pathlib import Path

    blocked = Path(str(tmp_path)) / "blocked"
    blocked.write_text("in the way")
    gateway = connect()
    gateway.register(registration(f"{name}-down", f"local:{blocked}"))
    gateway.heartbeat(f"{name}-down", devices=(f"{name}-down",))
    actuator(_echo)

    stuck = http.post(f"/api/v1/devices/{name}-down/commands", json={"name": "stop", "deadline": 1})
    assert stuck.status_code == 202
    assert client.device(f"{name}-pump").command("set_speed", rpm=1).result() == {"rpm": 1}
    unsent = until(lambda: (now := client.command(stuck.json()["id"])).final and now)
    assert unsent.state == "unsent"
    troubles = {one["broker"]: one for one in http.get("/api/v1/status").json()["brokers"]}
    assert troubles[f"local:{blocked}"]["following"] or troubles[f"local:{blocked}"]["sending"]
