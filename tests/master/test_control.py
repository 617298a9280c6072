"""The gateways' WebSocket: JSON-RPC 2.0 both ways, and proper errors for whatever comes."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from master.client import Client
from schemas import rpc
from tests.master.gateways import RpcGateway, registration, until
from tests.master.processes import MasterProcess

Connect = Callable[[], RpcGateway]


def test_a_heartbeat_is_taken_only_from_the_gateway_that_registered_on_the_connection(
    connect: Connect, broker_url: str, name: str
) -> None:
    gateway = connect()
    assert gateway.heartbeat(name)["error"]["code"] == rpc.NOT_REGISTERED
    gateway.register(registration(name, broker_url))
    assert gateway.heartbeat(name)["result"] is None
    assert gateway.heartbeat("another")["error"]["code"] == rpc.NOT_REGISTERED
    assert gateway.heartbeat(name, epoch=2)["error"]["code"] == rpc.NOT_REGISTERED


def test_the_newer_epoch_takes_the_place_of_the_older_which_is_told_and_closed(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    older, newer = connect(), connect()
    older.register(registration(name, broker_url, epoch=5))
    newer.register(registration(name, broker_url, epoch=6))
    code, _ = older.closed()
    assert code == rpc.CLOSE_STALE_EPOCH
    assert older.notifications == [{"jsonrpc": "2.0", "method": "superseded", "params": {"gateway": name, "epoch": 6}}]
    assert newer.heartbeat(name, epoch=6)["result"] is None
    assert client.gateways(gateway=name)[0].epoch == 6


def test_an_older_epoch_is_refused_and_closed_and_the_newer_one_stays(connect: Connect, broker_url: str, name: str) -> None:
    newer, older = connect(), connect()
    newer.register(registration(name, broker_url, epoch=6))
    response = older.ask("register", registration(name, broker_url, epoch=5))
    assert response["error"]["code"] == rpc.STALE_EPOCH
    assert "6" in response["error"]["message"]
    assert older.closed()[0] == rpc.CLOSE_STALE_EPOCH
    assert newer.heartbeat(name, epoch=6)["result"] is None


def test_a_gateway_that_connects_again_in_the_same_epoch_goes_on_on_the_new_connection(
    connect: Connect, http: httpx.Client, broker_url: str, name: str
) -> None:
    half_dead, again = connect(), connect()
    half_dead.register(registration(name, broker_url))
    half_dead.heartbeat(name, devices=("d1",))
    again.answers["get_status"] = lambda: {"connection": "second"}
    again.register(registration(name, broker_url))
    half_dead.closed()
    assert http.get(f"/api/v1/gateways/{name}/status").json() == {"connection": "second"}
    assert http.get(f"/api/v1/devices/d1?gateway={name}").status_code == 200


def test_a_forgotten_gateway_is_gone_and_may_come_back_with_an_older_epoch(
    connect: Connect, http: httpx.Client, client: Client, broker_url: str, name: str
) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url, epoch=9))
    assert http.delete(f"/api/v1/gateways/{name}").status_code == 204
    assert gateway.closed()[0] == rpc.CLOSE_FORGOTTEN
    assert client.gateways(gateway=name) == []
    assert http.delete(f"/api/v1/gateways/{name}").status_code == 404
    connect().register(registration(name, broker_url, epoch=1))
    assert client.gateways(gateway=name)[0].epoch == 1


def test_the_master_calls_a_gateway_and_shows_its_answer(
    connect: Connect, http: httpx.Client, broker_url: str, name: str
) -> None:
    gateway = connect()
    gateway.answers["get_status"] = lambda: {"uptime": 17}
    gateway.answers["list"] = lambda: ["pumps"]
    gateway.register(registration(name, broker_url))
    assert http.get(f"/api/v1/gateways/{name}/ping").json() == {}
    assert http.get(f"/api/v1/gateways/{name}/status").json() == {"uptime": 17}
    assert http.get(f"/api/v1/gateways/{name}/list").json() == ["pumps"]


def test_a_gateway_that_does_not_answer_is_a_clear_error_within_the_time_given(
    connect: Connect, http: httpx.Client, broker_url: str, name: str
) -> None:
    gateway = connect()
    gateway.answers.clear()
    gateway.register(registration(name, broker_url))
    answer = http.get(f"/api/v1/gateways/{name}/status", params={"timeout": 0.2})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "did not answer" in answer.json()["detail"]
    assert http.get("/api/v1/gateways/nobody/status").status_code == 404
    gateway.close()
    until(lambda: http.get(f"/api/v1/gateways/{name}/status").status_code == 404)


def test_reports_are_kept_newest_first(connect: Connect, http: httpx.Client, broker_url: str, name: str) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url))
    for number in range(3):
        report = rpc.Report(name, "restarted", "pumps", f"exit {number}", number)
        assert gateway.ask("report", report)["result"] is None
    shown = http.get(f"/api/v1/gateways/{name}/reports", params={"limit": 2}).json()
    assert [one["detail"] for one in shown] == ["exit 2", "exit 1"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", rpc.PARSE_ERROR),
        (b"\xff\xfe", rpc.PARSE_ERROR),
        ('{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": ' + "[" * 100_000, rpc.PARSE_ERROR),
        ("17", rpc.INVALID_REQUEST),
        ("[]", rpc.INVALID_REQUEST),
        ('{"jsonrpc": "1.0", "id": 1, "method": "ping"}', rpc.INVALID_REQUEST),
        ('{"jsonrpc": "2.0", "id": 1}', rpc.INVALID_REQUEST),
        ('{"jsonrpc": "2.0", "id": {}, "method": "register"}', rpc.INVALID_REQUEST),
    ],
)
def test_what_is_no_json_rpc_is_answered_with_the_code_of_its_error(
    connect: Connect, broker_url: str, name: str, message: str | bytes, code: int
) -> None:
    gateway = connect()
    gateway.send(message)
    assert gateway.unasked.result(30)["error"]["code"] == code
    gateway.register(registration(name, broker_url))


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("format_disk", {}, rpc.METHOD_NOT_FOUND),
        ("register", {}, rpc.INVALID_PARAMS),
        ("register", [1, 2], rpc.INVALID_PARAMS),
        ("heartbeat", {"gateway": 1}, rpc.INVALID_PARAMS),
    ],
)
def test_a_call_that_cannot_be_made_is_answered_with_the_code_of_its_error(
    connect: Connect, method: str, params: object, code: int
) -> None:
    assert connect().ask(method, params)["error"]["code"] == code


def test_a_notification_is_not_answered(connect: Connect, broker_url: str, name: str) -> None:
    gateway = connect()
    gateway.send(json.dumps({"jsonrpc": "2.0", "method": "format_disk"}))
    gateway.register(registration(name, broker_url))
    assert not gateway.unasked.done()


def test_a_message_beyond_the_limit_closes_the_connection_and_nothing_else(connect: Connect, broker_url: str, name: str) -> None:
    flood, other = connect(), connect()
    flood.send("x" * (rpc.MAX_MESSAGE_BYTES + 1))
    assert flood.closed()[0] == 1009
    other.register(registration(name, broker_url))


@pytest.mark.parametrize("token", [None, "wrong", "x" * 5_000])
def test_without_the_token_the_handshake_is_refused(master: MasterProcess, token: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        RpcGateway(master.url, token)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["status"] == 401
