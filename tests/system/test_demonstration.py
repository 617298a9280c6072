"""The whole way: a recording in; windows, commands and an archive out; exact, whoever is killed on the way."""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from examples.demo.layout import RECORDING
from tests.system.demonstration import descendants, finish, pids_of, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

EVENTS_OF_THE_RECORDING = 2 * 18_914
KILLS = ("gateway", "pipeline", "prism")


def check(status: int, summary: dict[str, Any]) -> None:
    assert summary["failed"] == []
    assert status == 0
    assert summary["accepted"] == summary["published"] == summary["archived"] == summary["counted_in_windows"]
    assert summary["windows"] == {"rows": summary["windows"]["rows"], "compared": 1308, "wrong": 0}
    wsn = [summary["topics"][f"demo.wsn.{channel}"] for channel in ("humidity", "temperature")]
    assert sum(topic["accepted"] for topic in wsn) == EVENTS_OF_THE_RECORDING
    assert (summary["duplicates"], summary["gaps"], summary["dead_letters"]) == (0, 0, 0)
    # Vapour near two motes: the fan is told to start and to stop for each.
    assert summary["commands"]["sent"] == summary["commands"]["executed"] == 4
    # What is stored is whole, and the same windows and commands come from it.
    assert summary["events"] == {"compacted": summary["accepted"], "hours": summary["events"]["hours"], "faults": {}}
    assert summary["reprocessed"] == {"windows": summary["windows"]["rows"], "different": 0, "commands": 4}


def test_the_recording_gives_exactly_the_windows_of_plain_python(tmp_path: Path) -> None:
    out = tmp_path / "out"
    demonstration = start(out, "--speed", "1500")
    check(*finish(demonstration, timeout=300))
    with closing(sqlite3.connect(out / "results.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM latest WHERE device LIKE 'mote-%'").fetchone() == (8,)
        assert database.execute("SELECT count(*) FROM alerts").fetchone() == (4,)
        assert database.execute("SELECT count(*) FROM gaps").fetchone() == (0,)
    assert {"events", "journal"} <= {path.name for path in (out / "archive").iterdir()}


def kill_in_turn(demonstration: subprocess.Popen[str], *, rounds: int, seed: int) -> dict[str, int]:
    """SIGKILL one kind of process after the other, at moments drawn by chance; returns how often each was hit."""
    chance = random.Random(seed)
    hits = dict.fromkeys(KILLS, 0)
    turns = list(KILLS) * rounds
    deadline = time.monotonic() + 240
    while turns and time.monotonic() < deadline and demonstration.poll() is None:
        time.sleep(chance.uniform(0.5, 3.0))
        pids = pids_of(demonstration, turns[0])
        if not pids:
            continue
        kind = turns.pop(0)
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
            hits[kind] += 1
    return hits


def test_kills_of_agent_pipeline_and_prism_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    demonstration = start(tmp_path / "out", "--speed", "500")
    hits = kill_in_turn(demonstration, rounds=3, seed=1)
    check(*finish(demonstration, timeout=300))
    assert all(count >= 2 for count in hits.values()), hits


def test_no_process_outlives_the_demonstration(tmp_path: Path) -> None:
    demonstration = start(tmp_path / "out", "--speed", "1500")
    deadline = time.monotonic() + 60
    while not pids_of(demonstration, "prism"):
        assert time.monotonic() < deadline, "the pipeline did not start"
        time.sleep(0.1)
    below = [pid for pid, _ in descendants(demonstration.pid)]
    assert len(below) >= 6
    demonstration.kill()
    demonstration.communicate()
    while any(alive(pid) for pid in below):
        assert time.monotonic() < deadline, [pid for pid in below if alive(pid)]
        time.sleep(0.1)


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def test_bad_rows_of_a_recording_are_reported_and_the_rest_is_exact(tmp_path: Path) -> None:
    with RECORDING.open(newline="") as file:
        rows = list(csv.reader(file))[:2001]
    rows[100][3] = "wet"
    rows[200][0] = "x"
    recording = tmp_path / "recording.csv"
    with recording.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    status, summary = finish(start(tmp_path / "out", "--csv", str(recording), "--speed", "3000"), timeout=300)
    assert (status, summary["failed"]) == (0, [])
    # The row without a time is one, the cell without a number another; its temperature still counts.
    assert summary["rejected"] == 2
    wsn = [summary["topics"][f"demo.wsn.{channel}"]["accepted"] for channel in ("humidity", "temperature")]
    assert wsn == [1998, 1999]


def test_a_recording_without_the_expected_columns_is_refused_by_name(tmp_path: Path) -> None:
    recording = tmp_path / "recording.csv"
    recording.write_text("time,humidity\n1,2\n")
    status, summary = finish(start(tmp_path / "out", "--csv", str(recording)), timeout=120)
    assert status == 1
    assert "column" in summary["failed"][0]
