"""Starting a master: without ceremony on loopback, not at all where it would stand open to a network."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.exceptions import InvalidStatus

from master.__main__ import main
from master.client import Client
from tests.master.gateways import RpcGateway, broker_in, registration, until
from tests.master.processes import ROOT, MasterProcess


@pytest.mark.parametrize(
    ("options", "reason", "remedy"),
    [
        (["--host", "0.0.0.0"], "there is no TLS", "--tls-certificate"),
        (["--host", "0.0.0.0", "--no-auth"], "--no-auth on 0.0.0.0", "listen on 127.0.0.1"),
        (["--host", "0.0.0.0", "--tls-certificate", "c", "--tls-key", "k"], "there is no token", "--token file:PATH"),
        (["--no-auth", "--token", "a-token-long-enough"], "contradict", "one of them"),
        (["--token", "short"], "shorter than 16", "secrets"),
        (["--token", "file:/nowhere/token"], "cannot read the secret file", ""),
        (["--lease", "3s", "--heartbeat", "5s"], "do not rise", "heartbeat < suspect < lease"),
        (["--lease", "soon"], "'soon' is not a duration", ""),
        (["--database", "oracle://x/y"], "oracle", "sqlite"),
        (["--database", "sqlite:////nowhere/at/all.sqlite"], "unable to open", "writable"),
        (["--tls-certificate", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"], "TLS", "PEM"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str, remedy: str
) -> None:
    assert main(["--data", str(tmp_path / "data"), *options]) == 2
    shown = capsys.readouterr().err
    assert "Error: " in shown
    assert reason in shown
    assert remedy in shown


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["run", "--help"])
    assert exit_status.value.code == 0
    assert "python -m master --data ./master" in capsys.readouterr().out


def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "master.toml"
    file.write_text('data = "d"\nlese = "20s"\n')
    assert main(["--config", str(file)]) == 2
    assert "master.toml:2: lese: unknown field; did you mean 'lease'?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_token_is_made_once_for_its_owner_only_and_never_logged(tmp_path: Path) -> None:
    process = MasterProcess(tmp_path / "data")
    process.start()
    token = process.token
    assert process.stop() == 0
    process.start()
    assert process.stop() == 0
    assert process.token == token
    assert (process.directory / "token").stat().st_mode & 0o777 == 0o600
    assert token not in process.log
    listening = [json.loads(line) for line in process.log.splitlines() if '"listening"' in line]
    assert listening[0]["url"] == process.url, "the second start took the same port"


def test_one_master_at_a_time_runs_on_a_directory(master: MasterProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(master.directory)]) == 2
    assert "another master runs on it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_and_options_together_and_the_option_wins(tmp_path: Path) -> None:
    (tmp_path / "master.toml").write_text(
        f'data = "{tmp_path / "data"}"\nno_auth = true\nheartbeat = "1s"\nlease = "7s"\nurl_file = "elsewhere"\n'
    )
    process = MasterProcess(tmp_path / "data", "--config", str(tmp_path / "master.toml"), "--lease", "9s")
    process.start()
    status = httpx.get(process.url + "/api/v1/status").json()
    assert (status["heartbeat_seconds"], status["lease_seconds"]) == (1.0, 9.0)
    assert process.stop() == 0


@pytest.mark.slow
def test_without_a_token_pages_of_foreign_hosts_are_kept_out(tmp_path: Path) -> None:
    """A browser on the same machine must not let any web page it shows command devices."""
    process = MasterProcess(tmp_path / "data", "--no-auth")
    process.start()
    try:
        path = process.url + "/api/v1/commands"
        order = {"device": "x", "name": "y"}
        assert httpx.post(path, json=order).status_code == 404, "let in, but there is no such device"
        assert httpx.post(path, json=order, headers={"Host": "evil.example"}).status_code == 403
        assert httpx.post(path, json=order, headers={"Origin": "https://evil.example"}).status_code == 403
        assert httpx.post(path, content=json.dumps(order), headers={"Content-Type": "text/plain"}).status_code == 415
        gateway = RpcGateway(process.url, None)
        gateway.register(registration("g", broker_in(tmp_path)))
        gateway.close()
    finally:
        assert process.stop() == 0


@pytest.mark.slow
def test_with_tls_and_a_token_it_listens_on_every_address(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    token = "a-token-that-is-long-enough"
    (tmp_path / "token.txt").write_text(token + "\n")
    process = MasterProcess(
        tmp_path / "data",
        *("--host", "0.0.0.0", "--token", f"file:{tmp_path / 'token.txt'}"),
        *("--tls-certificate", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")),
    )
    process.start()
    try:
        url = f"https://127.0.0.1:{process.port}"
        with Client(url, f"file:{tmp_path / 'token.txt'}", ca=tmp_path / "ca.pem") as client:
            assert client.sites() == []
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(url + "/live", verify=ssl.create_default_context())
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://127.0.0.1:{process.port}/live")
    finally:
        assert process.stop() == 0


@pytest.mark.slow
def test_a_signal_ends_streams_and_connections_and_the_exit_status_is_0(tmp_path: Path) -> None:
    process = MasterProcess(tmp_path / "data")
    process.start()
    gateway = RpcGateway(process.url, process.token)
    gateway.register(registration("g", broker_in(tmp_path)))
    with process.http() as http, http.stream("GET", "/api/v1/watch") as watching:
        lines = watching.iter_lines()
        assert next(lines) == "event: ready"
        assert process.stop() == 0
        assert list(lines)[-1] == ""
    assert gateway.closed()[0] in {1001, 1012}


@pytest.mark.slow
def test_sigint_stops_it_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "master", "--data", str(tmp_path), "--url-file", str(tmp_path / "url")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        until((tmp_path / "url").exists)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0


def test_a_wrong_token_at_the_door_names_no_reason_to_guess_from(master: MasterProcess) -> None:
    answers = []
    for token in ("x", master.token[:-1], master.token + "x"):
        with pytest.raises(InvalidStatus) as refused:
            RpcGateway(master.url, token)
        answers.append(bytes(refused.value.response.body or b""))
    assert len(set(answers)) == 1
