"""The demonstration proves itself with real stores: `./dev demo --store NAME --db NAME`."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.demonstration import descendants, finish, start
from tests.system.test_demonstration import KILLS, check, kill_in_turn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(540)]


def test_into_cassandra_and_no_file_has_its_password(tmp_path: Path) -> None:
    out = tmp_path / "out"
    check(*finish(start(out, "--db", "cassandra", "--speed", "2000"), timeout=480))
    ours = [*out.glob("*.*"), *(out / "logs").iterdir()]
    assert len(ours) > 8
    assert [path for path in ours if b"cassandra:cassandra@" in path.read_bytes()] == []


def test_into_hdfs_and_postgresql_with_kills_of_every_job(tmp_path: Path) -> None:
    """Gateway, pipeline and runner while they run, and each batch job once."""
    demonstration = start(tmp_path / "out", "--store", "hdfs", "--db", "postgres", "--speed", "500")
    hits = kill_in_turn(demonstration, rounds=2, seed=4)
    assert all(hits[kind] >= 1 for kind in KILLS), hits
    chance = random.Random(4)
    for job in ("compact", "verify", "reprocess"):
        kill_within(2.0 * chance.random(), job, demonstration.pid)
    status, summary = finish(demonstration, timeout=300)
    check(status, summary)
    assert summary["restarts"]["batch"] >= 1


def kill_within(seconds: float, job: str, above: int) -> None:
    """SIGKILL a batch job so long after it has begun, if it still runs then."""
    deadline = time.monotonic() + 240
    while not (found := [pid for pid, line in descendants(above) if f"pipelines.run {job} " in line]):
        assert time.monotonic() < deadline, f"{job} did not start"
        time.sleep(0.05)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(found[0], signal.SIGKILL)
