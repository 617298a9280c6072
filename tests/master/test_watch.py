"""Watchers are told every change once, in order, and go on where they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

import httpx

from master.client import Client
from master.client.changes import Change
from tests.master.gateways import RpcGateway, registration

Connect = Callable[[], RpcGateway]


def _up_to(changes: Iterator[Change], kind: str, action: str, gateway: str) -> list[Change]:
    """Changes up to the one looked for, that one included."""
    found: list[Change] = []
    for change in changes:
        found.append(change)
        if (change.kind, change.action, change.gateway) == (kind, action, gateway):
            return found
    raise AssertionError("the stream has ended")


def test_a_watcher_is_told_what_registers_and_appears(connect: Connect, client: Client, broker_url: str, name: str) -> None:
    changes = client.watch(f"gateway={name}")
    assert next(changes).kind == "ready"
    gateway = connect()
    gateway.register(registration(name, broker_url, site=name))
    gateway.heartbeat(name, devices=("d1",))
    found = _up_to(changes, "device", "added", name)
    assert [(one.kind, one.action) for one in found] == [
        ("application", "added"),
        ("channel", "added"),
        ("channel", "added"),
        ("gateway", "added"),
        ("application", "changed"),
        ("device", "added"),
    ]
    assert found[-1].value is not None
    assert found[-1].value["device"] == "d1"


def test_a_heartbeat_that_tells_nothing_new_is_no_change(connect: Connect, client: Client, broker_url: str, name: str) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url, site=name))
    gateway.heartbeat(name, devices=("d1",))
    changes = client.watch(f"gateway={name}")
    next(changes)
    for _ in range(3):
        gateway.heartbeat(name, devices=("d1",))
    gateway.heartbeat(name, devices=("d1",), state="failed")
    found = _up_to(changes, "channel", "changed", name)
    assert {(one.kind, one.action) for one in found} == {("application", "changed"), ("channel", "changed")}
    assert found[-1].value is not None
    assert found[-1].value["available"] is False, "channels of an application that failed are unavailable"


def test_a_watcher_that_comes_back_misses_nothing_and_sees_nothing_twice(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    watching = client.watch(f"site={name}", kinds=["gateway"])
    seen = [next(watching)]
    for number in range(6):
        connect().register(registration(f"{name}-{number}", broker_url, site=name))
        if number % 2:
            seen += takewhile(lambda change: change.kind == "gateway", (next(watching) for _ in range(2)))
            watching = client.watch(f"site={name}", kinds=["gateway"], after=seen[-1].number)
            assert next(watching).kind == "ready"
    assert [change.gateway for change in seen[1:]] == [f"{name}-{number}" for number in range(6)]
    assert [change.number for change in seen] == sorted({change.number for change in seen})


def test_a_number_from_another_time_is_answered_with_reset(http: httpx.Client) -> None:
    with http.stream("GET", "/api/v1/watch", headers={"Last-Event-ID": "999999999"}) as response:
        assert next(response.iter_lines()) == "event: reset"
    assert http.get("/api/v1/watch", headers={"Last-Event-ID": "yesterday"}).status_code == 422


def test_commands_and_removals_are_changes_too(
    connect: Connect, http: httpx.Client, client: Client, broker_url: str, name: str
) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url, site=name))
    gateway.heartbeat(name, devices=(f"{name}-d",))
    changes = client.watch(f"site={name}")
    next(changes)
    http.post(f"/api/v1/devices/{name}-d/commands", json={"name": "stop"})
    _up_to(changes, "command", "added", name)
    http.delete(f"/api/v1/gateways/{name}")
    found = _up_to(changes, "gateway", "removed", name)
    assert found[-1].value is None
    assert ("application", "removed") in {(one.kind, one.action) for one in found}
