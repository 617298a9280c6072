"""The REST interface stands what is sent to it, and describes itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.master.processes import MasterProcess


def _port(master: MasterProcess) -> tuple[str, int]:
    return "127.0.0.1", master.port


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v1/sites"), ("GET", "/api/v1/watch"), ("POST", "/api/v1/commands"), ("DELETE", "/api/v1/gateways/x")],
)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc=", "Bearer", "Bearer \xff"])
def test_without_the_token_nothing_is_told_or_done(master: MasterProcess, method: str, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = httpx.request(method, master.url + path, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (401, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/metrics", "/live", "/ready", "/schema", "/schema/openapi.json"])
def test_health_metrics_and_description_are_open(master: MasterProcess, path: str) -> None:
    assert httpx.get(master.url + path).status_code == 200


def test_the_description_names_every_route_and_needs_no_other_host(master: MasterProcess) -> None:
    document = httpx.get(master.url + "/schema/openapi.json").json()
    page = httpx.get(master.url + "/schema").text
    assert {"/api/v1/gateways", "/api/v1/devices/{device}/commands", "/api/v1/watch"} <= set(document["paths"])
    assert all(path in page for path in document["paths"])
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_description_says_that_errors_are_problem_documents(master: MasterProcess) -> None:
    document = httpx.get(master.url + "/schema/openapi.json").json()
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    for operation in operations:
        content = operation["responses"]["default"]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert all(status < "400" or status == "default" for status in operation["responses"])
    problem = httpx.get(master.url + "/api/v1/nothing", headers={"Authorization": f"Bearer {master.token}"}).json()
    assert set(problem) == set(document["components"]["schemas"]["Problem"]["properties"])
    assert "id='Problem'" in httpx.get(master.url + "/schema").text


def test_metrics_count_gateways_calls_and_requests(master: MasterProcess, http: httpx.Client) -> None:
    http.get("/api/v1/sites")
    text = http.get("/metrics").text
    assert 'iotcloud_master_gateways{state="online"}' in text
    assert 'iotcloud_master_requests_total{status="2xx"}' in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/nothing", 404),
        ("/api/v1/gateways?limit=0", 400),
        ("/api/v1/gateways?limit=many", 400),
        ("/api/v1/gateways?after=%2A", 400),
        ("/api/v1/gateways?after=WzEsMl0", 400),
        ("/api/v1/gateways?label=novalue", 400),
        ("/api/v1/gateways?device=d", 422),
        ("/api/v1/applications?channel=c", 422),
        ("/api/v1/devices?topic=t", 422),
        ("/api/v1/commands?application=a", 422),
        ("/api/v1/watch?label=a:b", 422),
        ("/api/v1/devices?device=%00", 200),
        ("/api/v1/commands?after=WyJ4Il0", 200),
        ("/api/v1/commands/x", 404),
        ("/api/v1/commands/x/states?wait=1e9", 400),
        ("/api/v1/commands/x/states?wait=nan", 400),
        ("/api/v1/audit?after=99999999999999999999999", 400),
        ("/api/v1/gateways/%2e%2e%2fsecret", 404),
        ("/api/v1/gateways/x'%20OR%201=1--", 404),
    ],
)
def test_a_request_that_makes_no_sense_is_a_problem_document_not_a_failure(http: httpx.Client, path: str, status: int) -> None:
    answer = http.get(path)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["status"] == status


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": 1}', b'{"device": "x", "name": "y", "deadline": 1e999}', b"[" * 200_000]
)
def test_a_body_that_makes_no_sense_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/api/v1/commands", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_huge_body_is_refused_whether_or_not_its_length_is_told(http: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 65_536

    for content in (b" " * (4 << 20), endless()):
        try:
            answer = http.post("/api/v1/commands", content=content, headers={"Content-Type": "application/json"})
        except (httpx.WriteError, httpx.ReadError):
            continue  # closed before all of it was sent
        assert answer.status_code == 413
    assert http.get("/ready").status_code == 200


def test_huge_headers_are_refused(master: MasterProcess) -> None:
    with socket.create_connection(_port(master), timeout=20) as connection:
        try:
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000)
            answer = connection.recv(100)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_rubbish_instead_of_http_closes_the_connection_alone(master: MasterProcess, http: httpx.Client) -> None:
    with socket.create_connection(_port(master), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert http.get("/live").status_code == 200


def test_many_requests_at_once_are_all_answered(master: MasterProcess) -> None:
    statuses: list[int] = []

    def ask() -> None:
        with master.http() as client:
            statuses.extend(client.get("/api/v1/devices").status_code for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 160


def test_the_audit_log_cannot_be_rewritten(master: MasterProcess, http: httpx.Client) -> None:
    import sqlite3

    http.post("/api/v1/commands", json={"device": "x", "name": "y"})
    assert http.delete("/api/v1/audit").status_code == 405
    database = sqlite3.connect(Path(master.directory) / "master.sqlite", timeout=20)
    try:
        with database:
            database.execute("INSERT INTO audit (time, actor, action, subject, detail) VALUES (1, 'a', 'b', 'c', '')")
        for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"), database:
                database.execute(statement)
    finally:
        database.close()
