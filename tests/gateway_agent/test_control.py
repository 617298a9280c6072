"""The link to the master, against a real WebSocket server that speaks the master's side of `schemas.rpc`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from gateway_agent.control import ControlLink
from schemas import rpc
from tests.gateway_agent.kit import eventually

Answer = Callable[[str, Any], Any]


class Master:
    """Notes what it is told. ``answer`` gives results by method and parameters, or raises ``Refuse``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.tokens: list[str | None] = []
        self.paths: list[str] = []
        self.connections: list[ServerConnection] = []
        self.answers: list[dict[str, Any]] = []
        self.refuse: dict[str, dict[str, Any]] = {}
        self.silent = False
        self.terms = {"lease_seconds": 1.0, "heartbeat_seconds": 0.05}

    def told(self, method: str) -> list[Any]:
        return [params for name, params in self.calls if name == method]

    def serve(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request
        self.tokens.append(request.headers.get("Authorization"))
        self.paths.append(request.path)
        self.connections.append(connection)
        try:
            for text in connection:
                self.take(connection, json.loads(text))
        except ConnectionClosed:
            pass

    def take(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        assert message["jsonrpc"] == "2.0"
        if "method" not in message:
            self.answers.append(message)
            return
        self.calls.append((message["method"], message["params"]))
        if self.silent:
            return
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in self.refuse:
            answer["error"] = self.refuse[message["method"]]
        else:
            answer["result"] = self.terms if message["method"] == "register" else None
        connection.send(json.dumps(answer))

    def ask(self, method: str, number: int | None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": {"gateway": "gw-1", "epoch": 9}}
        self.connections[-1].send(json.dumps(message if number is None else {**message, "id": number}))


@contextmanager
def listening(master: Master, port: int = 0) -> Iterator[int]:
    with serve(master.serve, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            for connection in master.connections:
                connection.close_socket()
            server.shutdown()
            thread.join(5)


@contextmanager
def linked(
    port: int, token: str = "secret", answer_within: float = 15.0, stopping: threading.Event | None = None
) -> Iterator[ControlLink]:
    link = ControlLink(
        f"http://127.0.0.1:{port}",
        token=lambda: token,
        register=lambda: rpc.Register("gw-1", "site", 7, "1", (rpc.Transport("main", "local:x"),), "main", ()),
        heartbeat=lambda: rpc.Heartbeat("gw-1", 7, 1, (), (), rpc.OutboxStatus(1, 1, 0, 0, 0, 0)),
        methods={"ping": lambda: 12, "list": list, "get_status": lambda: 1 / 0},
        answer_within=answer_within,
    )
    link._stopping = stopping or link._stopping
    link.start()
    try:
        yield link
    finally:
        link.stop(5.0)


@pytest.fixture
def master() -> Master:
    return Master()


def test_a_gateway_registers_first_and_then_keeps_its_lease(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: len(master.told("heartbeat")) >= 3)
        assert link.state == "connected"
    assert master.calls[0][0] == "register"
    assert master.calls[0][1]["gateway"] == "gw-1"
    assert master.calls[0][1]["transports"] == [{"name": "main", "url": "local:x"}]
    assert len(master.told("register")) == 1
    assert master.tokens == ["Bearer secret"]
    assert master.paths == [rpc.PATH]


def test_without_a_token_none_is_sent(master: Master) -> None:
    with listening(master) as port, linked(port, token=""):
        eventually(lambda: master.tokens == [None])


def test_a_master_that_comes_later_or_comes_back_is_found(master: Master) -> None:
    with listening(master) as port:
        pass
    with linked(port) as link:
        eventually(lambda: link.detail, what="a failed attempt")
        with listening(master, port):
            eventually(lambda: link.state == "connected")
        eventually(lambda: link.state == "connecting")
        with listening(master, port):
            eventually(lambda: link.state == "connected")
    assert len(master.told("register")) == 2


@pytest.mark.slow
def test_a_master_that_does_not_answer_is_left(master: Master) -> None:
    with listening(master) as port, linked(port, answer_within=0.3) as link:
        eventually(lambda: link.state == "connected")
        master.silent = True
        eventually(lambda: len(master.connections) >= 2)
        master.silent = False
        # The second connection may have been made before it spoke again, and registered after that.
        eventually(lambda: link.state == "connected")


def test_a_connection_that_was_closed_is_made_again(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "connected")
        link_before = len(master.connections)
        master.connections[-1].close()
        eventually(lambda: len(master.connections) > link_before and link.state == "connected")


def test_the_master_may_call_and_is_answered(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "connected")
        for number, method in enumerate(("ping", "list", "get_status", "dance")):
            master.ask(method, number)
        eventually(lambda: len(master.answers) == 4)
        assert link.state == "connected"
    by_id = {answer["id"]: answer for answer in master.answers}
    assert by_id[0]["result"] == 12
    assert by_id[1]["result"] == []
    assert by_id[2]["error"]["code"] == rpc.INTERNAL_ERROR
    assert by_id[3]["error"]["code"] == rpc.METHOD_NOT_FOUND


def test_reports_wait_for_a_connection_and_are_told_in_order(master: Master) -> None:
    with listening(master) as port:
        pass
    with linked(port) as link:
        for number in range(40):
            link.report(rpc.Report("gw-1", "kind", "app", str(number), number))
        with listening(master, port):
            eventually(lambda: len(master.told("report")) >= 40)
    assert [report["detail"] for report in master.told("report")] == [str(number) for number in range(40)]


@pytest.mark.parametrize("code", [rpc.REFUSED, rpc.STALE_EPOCH])
def test_a_gateway_that_is_refused_says_why_and_does_not_hammer(master: Master, code: int) -> None:
    master.refuse["register"] = {"code": code, "message": "not like this", "data": "do it right"}
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "refused")
        assert link.detail == "not like this (do it right)"
    assert len(master.told("register")) == 1


def test_gateways_that_were_refused_together_do_not_come_back_together(master: Master) -> None:
    class Impatient(threading.Event):
        """Notes how long it was to be waited, and waits less."""

        def __init__(self) -> None:
            super().__init__()
            self.pauses: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.pauses.append(timeout or 0.0)
            return super().wait(0.01)

    master.refuse["register"] = {"code": rpc.REFUSED, "message": "not like this"}
    impatient = Impatient()
    with listening(master) as port, linked(port, stopping=impatient):
        eventually(lambda: len(impatient.pauses) >= 5)
    pauses = impatient.pauses[:5]
    assert all(60 <= pause <= 120 for pause in pauses)
    assert len({round(pause, 3) for pause in pauses}) > 1


def test_a_gateway_that_is_no_longer_known_registers_again(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "connected")
        master.refuse["heartbeat"] = {"code": rpc.NOT_REGISTERED, "message": "who are you"}
        eventually(lambda: len(master.told("register")) >= 2)
        master.refuse.clear()
        eventually(lambda: link.state == "connected")


def test_a_superseded_gateway_keeps_away(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "connected")
        master.ask("superseded", None)
        eventually(lambda: link.state == "refused")
        assert "another agent" in link.detail


def test_what_has_changed_is_registered_anew(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "connected")
        link.register_anew()
        eventually(lambda: len(master.told("register")) == 2)


def test_rubbish_from_the_other_side_ends_the_connection_not_the_link(master: Master) -> None:
    with listening(master) as port, linked(port) as link:
        eventually(lambda: link.state == "connected")
        master.connections[-1].send("rubbish")
        eventually(lambda: len(master.told("register")) == 2)
        eventually(lambda: link.state == "connected")
