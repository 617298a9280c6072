"""A running agent: what it says of itself, what it takes, how it ends."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_agent.__main__ import main
from tests.gateway_agent.kit import ROOT, Account, agent, bodies, eventually, run_to_its_end

pytestmark = pytest.mark.slow

COUNT = """
[applications.count]
driver = "tests.gateway_agent.probes:Counter"
settings = { count = 200, batch = 5, pause = 0.01 }
"""
RECORDING = ROOT / "examples" / "demo" / "data" / "wsn" / "single-hop.csv"


def get(url: str, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url + path, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_status_and_metrics_say_what_was_accepted_and_published(
    configuration: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(COUNT)
    with agent(file) as running:
        running.wait_for("count", "stopped")
        status = running.wait_published()
        url = (tmp_path / "data" / "status.url").read_text().strip()
        assert get(url, "/ready") == (200, "ready\n")
        metrics = get(url, "/metrics")[1]
        assert main(["status", str(file)]) == 0
        assert main(["outbox", "inspect", str(file)]) == 0
        shown = capsys.readouterr().out
    assert status["topics"]["site.count.number"]["accepted"] == 200
    assert status["topics"]["site.count.number"]["published"] == 200
    assert status["applications"][0]["devices"] == {"counter": ["number"]}
    assert status["control"]["state"] == "off"
    assert 'iotcloud_outbox_accepted_events_total{topic="site.count.number"} 200.0' in metrics
    assert 'iotcloud_outbox_published_events_total{topic="site.count.number"} 200.0' in metrics
    assert "iotcloud_outbox_events 0.0" in metrics
    assert "finished" in shown
    assert "accepted 200 published 200" in shown


def test_a_failed_application_shows_and_harms_no_other(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    file = configuration(
        COUNT
        + """
        [applications.wrong]
        driver = "tests.gateway_agent.probes:Counter"
        settings = { count = "many" }
        [applications.loose]
        driver = "tests.gateway_agent.probes:Troublesome"
        settings = { kind = "raise" }
        restart = { first_pause = 0.01, longest_pause = 0.02, failures = 3 }
        """
    )
    with agent(file) as running:
        failed = running.wait_for("wrong", "failed")
        assert re.search(r"gateway\.toml:\d+: applications\.wrong\.settings\.count: ", failed["detail"])
        assert "it has come loose" in running.wait_for("loose", "failed")["detail"]
        running.wait_for("count", "stopped")
        url = (tmp_path / "data" / "status.url").read_text().strip()
        assert get(url, "/ready")[0] == 503
        running.wait_published()
    assert len(Account(bodies(broker_url, "site.count.number")).events) == 200


def test_agent_and_child_are_small(configuration: Callable[[str], Path]) -> None:
    """Guarantee: with one replay, under 60 MB resident for the agent and 45 MB for the child."""
    file = configuration(
        f"""
        [applications.wsn]
        driver = "replay"
        [applications.wsn.settings]
        file = "{RECORDING}"
        speed = 2000
        device = "mote-{{mote_id}}"
        time = {{ start = "2010-05-09T00:00:00Z", column = "reading", first = 1, step = "5s" }}
        channels = {{ humidity = {{ value = "humidity" }}, temperature = {{ value = "temperature" }} }}
        """
    )
    with agent(file) as running:
        eventually(lambda: (s := running.status()) and s["outbox"]["published"] > 10_000, within=60)
        found = running.application("wsn")
        assert found
        assert found["state"] == "running"
        sizes = {name: resident(pid) for name, pid in (("agent", running.pid), ("child", found["pid"]))}
    assert sizes["agent"] < 60
    assert sizes["child"] < 45


def resident(pid: int) -> float:
    """Most MB that were ever resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1000


def test_a_service_manager_is_told(configuration: Callable[[str], Path], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        with agent(configuration(COUNT), environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as running:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            assert running.terminate() == 0
            told = [manager.recv(100)]
            while told[-1] == b"WATCHDOG=1":
                told.append(manager.recv(100))
            assert told[-1] == b"STOPPING=1"


def test_a_second_agent_on_the_same_data_is_refused(configuration: Callable[[str], Path]) -> None:
    file = configuration(COUNT)
    with agent(file) as running:
        eventually(running.status)
        second = run_to_its_end(file, within=30)
    assert second.returncode == 1
    assert "another process has it open" in second.stderr


def test_a_broken_outbox_is_repaired_when_the_agent_starts(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    file = configuration(COUNT)
    with agent(file) as running:
        running.wait_for("count", "stopped")
        running.wait_published()
        assert running.terminate() == 0
    path = tmp_path / "data" / "outbox.sqlite"
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    with agent(file) as running:
        eventually(running.status)
        assert running.terminate() == 0
    assert list((tmp_path / "data").glob("outbox.damaged-*.sqlite"))
    assert "has been repaired" in running.log.read_text()


def test_what_waits_can_be_published_without_the_drivers(
    configuration: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = tmp_path / "away"
    file = configuration(f'[transports.far]\nurl = "local:{away}/broker"\n' + COUNT + 'transport = "far"\n')
    with agent(file) as running:
        running.wait_for("count", "stopped")
        running.kill()
    elsewhere = f"local:{tmp_path / 'elsewhere'}"
    assert main(["outbox", "replay", str(file), "--to", elsewhere]) == 0
    assert "published 200 events" in capsys.readouterr().out
    assert len(Account(bodies(elsewhere, "site.count.number")).events) == 200
