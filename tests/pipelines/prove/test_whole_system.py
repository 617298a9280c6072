"""``iotcloud prove`` beside a real agent, a real master and the real archive job: at work, killed, and at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from master.client import Client
from tests.gateway_agent.conftest import configuration
from tests.gateway_agent.kit import ROOT, agent, eventually
from tests.gateway_agent.test_with_master import free_port, master

pytestmark = pytest.mark.slow

__all__ = ["configuration"]

TOPIC = "site.counter.number"
COUNT = 4_000


def prove(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "iotcloud", "prove", "--archive", str(folder / "archive"), "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_system_at_work_killed_and_at_its_end(configuration: Callable[[str], Path], tmp_path: Path) -> None:
    """Guarantee: no alarm while events are under way; every accepted event found in the end, by outbox and by master alike."""
    port, data, log = free_port(), tmp_path / "master", f"local:{tmp_path}/broker"
    file = configuration(
        f"""
        [master]
        url = "http://127.0.0.1:{port}"
        token = "file:{data / "token"}"
        [applications.counter]
        driver = "tests.gateway_agent.probes:Counter"
        settings = {{ count = {COUNT}, batch = 7, pause = 0.005 }}
        """
    )
    with master(data, port):
        eventually((data / "token").exists)
        with agent(file) as running:
            running.wait_for("counter", "running")
            eventually(lambda: (status := running.status()) and status["outbox"]["published"] > 100)
            running.kill()
        with agent(file) as running:
            running.wait_for("counter", "running")
            status, found = prove(tmp_path, "--gateway", str(file), "--source", f"{log}/{TOPIC}")
            assert (status, found["totals"]["stored"]) == (0, 0), found
            running.wait_for("counter", "stopped")
            running.wait_published()
            with Client(f"http://127.0.0.1:{port}", f"file:{data / 'token'}") as client:
                told = eventually(
                    lambda: [
                        gateway.outbox
                        for gateway in client.gateways()
                        if gateway.outbox and (gateway.outbox.accepted, gateway.outbox.buffered_events) == (COUNT, 0)
                    ]
                )
            assert told[0].topics[0].accepted == COUNT
            assert running.terminate() == 0
        assert prove(tmp_path, "--gateway", str(file))[0] == 3
        job = ["archive", "--source", f"{log}/{TOPIC}", "--archive", str(tmp_path / "archive"), "--until-end"]
        subprocess.run([sys.executable, "-m", "pipelines.run", *job], cwd=ROOT, timeout=120, check=True, capture_output=True)
        status, by_outbox = prove(tmp_path, "--gateway", str(file))
        assert status == 0
        assert (by_outbox["totals"]["accepted"], by_outbox["totals"]["stored"], len(by_outbox["rows"])) == (COUNT, COUNT, 2)
        by_master = prove(tmp_path, "--master", f"http://127.0.0.1:{port}", "--token", f"file:{data / 'token'}")
        assert by_master == (status, by_outbox)
    file = min((tmp_path / "archive").glob("journal/*/*/*/*/*/*.Reading.*.avro"))
    file.unlink()
    status, found = prove(tmp_path, "--gateway", str(tmp_path / "data"), "--final")
    assert (status, found["totals"]["stored"] + found["totals"]["unexplained"]) == (1, COUNT)
