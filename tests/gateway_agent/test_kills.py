"""SIGKILL at any moment: of the agent, of a driver's process. Nothing accepted is lost, nothing is there twice."""

from __future__ import annotations

import csv
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.gateway_agent.kit import ROOT, Account, agent, bodies, eventually

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(3))
def test_an_agent_killed_again_and_again_delivers_every_event_of_a_driver_once(
    configuration: Callable[[str], Path], broker_url: str, seed: int
) -> None:
    """Guarantee: after removing frames sent twice, which are byte for byte equal, every event is there exactly once."""
    count = 12_000
    file = configuration(
        f"""
        [applications.counter]
        driver = "tests.gateway_agent.probes:Counter"
        settings = {{ count = {count}, batch = 7, pause = 0.002 }}
        """
    )
    moments = random.Random(seed)
    killed_at_work = 0
    for attempt in range(8):
        with agent(file) as running:
            if attempt % 2:
                # Every other time it is at work; else it may be anywhere on the way there.
                running.wait_for("counter", "running")
            time.sleep(moments.random() * 0.4)
            child = running.application("counter")
            running.kill()
            killed_at_work += bool(child and child["state"] == "running")
            if child and child["pid"]:
                # Guarantee: a driver's process does not outlive its agent.
                eventually(lambda pid=child["pid"]: not _alive(pid), within=5, what="the end of the child")
    with agent(file) as running:
        running.wait_for("counter", "stopped")
        status = running.wait_published()
        assert running.terminate() == 0
    assert killed_at_work >= 2
    account = Account(bodies(broker_url, "site.counter.number"))
    assert [event["value"] for event in account.events] == [float(number) for number in range(count)]
    assert len(account.starts) >= 3
    assert account.dropped == []
    topic = status["topics"]["site.counter.number"]
    assert (topic["accepted"], topic["published"], topic["dropped"]) == (count, count, 0)


def test_a_driver_whose_process_dies_again_and_again_emits_every_event_once(
    configuration: Callable[[str], Path], broker_url: str
) -> None:
    """Guarantee: state and events are committed together, so that the next process begins where accepted events end."""
    file = configuration(
        """
        [applications.counter]
        driver = "tests.gateway_agent.probes:Counter"
        settings = { count = 1200, batch = 20, die = 15, pause = 0.005 }
        restart = { first_pause = 0.01, longest_pause = 0.05, failures = 1000 }
        """
    )
    with agent(file) as running:
        found = running.wait_for("counter", "stopped", within=120)
        assert found["detail"] == "finished"
        assert found["restarts"] > 0
        running.wait_published()
    account = Account(bodies(broker_url, "site.counter.number"))
    assert [event["value"] for event in account.events] == [float(number) for number in range(1200)]


def test_a_recording_replayed_through_kills_arrives_row_for_row(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    """Guarantee: every row of the recording is there exactly once, with the time and the value of the CSV."""
    recording = ROOT / "examples" / "demo" / "data" / "wsn" / "single-hop.csv"
    file = configuration(
        f"""
        [applications.wsn]
        driver = "replay"
        [applications.wsn.settings]
        file = "{recording}"
        speed = 3000
        device = "mote-{{mote_id}}"
        time = {{ start = "2010-05-09T00:00:00Z", column = "reading", first = 1, step = "5s" }}
        channels = {{ humidity = {{ value = "humidity" }}, temperature = {{ value = "temperature" }} }}
        """
    )
    moments = random.Random(7)
    for _ in range(5):
        with agent(file) as running:
            running.wait_for("wsn", "running")
            time.sleep(0.2 + moments.random())
            running.kill()
    with agent(file) as running:
        running.wait_for("wsn", "stopped", within=120)
        running.wait_published()
        assert running.terminate() == 0
    with recording.open(encoding="utf-8", newline="") as rows:
        expected = {"humidity": Counter[object](), "temperature": Counter[object]()}
        for row in csv.DictReader(rows):
            at = datetime(2010, 5, 9, tzinfo=UTC) + (int(row["reading"]) - 1) * timedelta(seconds=5)
            for channel, count in expected.items():
                count[f"mote-{row['mote_id']}", at, float(row[channel])] += 1
    for channel, count in expected.items():
        account = Account(bodies(broker_url, f"site.wsn.{channel}"))
        got = Counter[object]((event["device"], event["event_time"], event["value"]) for event in account.events)
        assert got == count
        assert sum(got.values()) == 18_914


def test_what_was_accepted_while_the_broker_was_away_arrives_when_it_is_back(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    """Guarantee: events survive the agent's death while no broker is there, and leave in order later."""
    away = tmp_path / "not-mounted-yet"
    file = configuration(
        f"""
        [transports.far]
        url = "local:{away / "broker"}"
        [applications.counter]
        driver = "tests.gateway_agent.probes:Counter"
        transport = "far"
        settings = {{ count = 500 }}
        """
    )
    with agent(file) as running:
        running.wait_for("counter", "stopped")
        status = eventually(lambda: (s := running.status()) and s["transports"]["far"]["state"] == "unavailable" and s)
        assert status["outbox"]["buffered_events"] == 500
        running.kill()
    with agent(file) as running:
        eventually(running.status)
        away.mkdir()
        running.wait_published()
        assert running.terminate() == 0
    account = Account(bodies(f"local:{away / 'broker'}", "site.counter.number"))
    assert [event["value"] for event in account.events] == [float(number) for number in range(500)]


def test_an_agent_that_is_told_to_stop_leaves_nothing_unpublished_and_exits_with_zero(
    configuration: Callable[[str], Path], broker_url: str
) -> None:
    file = configuration(
        """
        [applications.counter]
        driver = "tests.gateway_agent.probes:Counter"
        settings = { count = 1000000, batch = 50, pause = 0.01 }
        """
    )
    with agent(file) as running:
        running.wait_for("counter", "running")
        eventually(lambda: (s := running.status()) and s["outbox"]["published"] > 500)
        assert running.terminate() == 0
    account = Account(bodies(broker_url, "site.counter.number"))
    values = [event["value"] for event in account.events]
    assert values == [float(number) for number in range(len(values))]
    assert len(values) % 50 == 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
