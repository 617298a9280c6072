"""Sessions and measures in the real job on Prism: late, killed, recomputed, and yet the rows of plain Python."""

from __future__ import annotations

import math
import random
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brokers import connect
from tests.pipelines.fleet import TOPICS, Fleet, fleet, micros, pieces
from tests.pipelines.system.job import Job, ends

pytestmark = pytest.mark.slow
GAP, LONGEST = 3_000_000, 120_000_000
PIPELINE = """
[source]
disorder = "10s"

[windows.visits]
kind = "session"
gap = "3s"
longest = "2m"
allowed_lateness = "1h"
aggregates = ["stddev", "first", "last", "p50", "p75"]

[windows.short]
size = "10s"
allowed_lateness = "1h"
aggregates = ["stddev"]

[rules.visited]
on = "windows"
window = "visits"
when = "count > 3 AND stddev > 1"
trigger = "each"
alert = true
"""
_COLUMNS = "period_start, device, channel, window_start, window_end, count, sum, min, max, stddev, first, last, p50, others"


def sessions_of(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Events of each session, in order: a new one begins after the gap, and with each multiple of the longest one."""
    series: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        series[event["device"], event["channel"]].append({**event, "time": micros(event["event_time"])})
    for found in series.values():
        found.sort(key=lambda event: (event["time"], event["epoch"], event["seq"]))
        run = found[:1]
        for event in found[1:]:
            if event["time"] - run[-1]["time"] >= GAP or event["time"] // LONGEST != run[-1]["time"] // LONGEST:
                yield run
                run = []
            run.append(event)
        yield run


def expected_rows(sent: Fleet) -> dict[Any, Any]:
    found = {}
    for run in sessions_of(sent.counted):
        period = run[0]["time"] // LONGEST * LONGEST
        key = (period, run[0]["device"], run[0]["channel"], run[0]["time"], min(run[-1]["time"] + GAP, period + LONGEST))
        values = [event["value"] for event in run]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        found[key] = (len(values), math.fsum(values), min(values), max(values), deviation, values[0], values[-1])
    return found


def check(job: Job, sent: Fleet) -> None:
    with closing(sqlite3.connect(job.results)) as database:
        rows = database.execute(f"SELECT {_COLUMNS} FROM sessions_micros").fetchall()
        deviations = database.execute("SELECT window_start, device, channel, stddev FROM aggregates_micros").fetchall()
        alerts = database.execute("SELECT count(*) FROM alerts").fetchone()[0]
    expected = expected_rows(sent)
    found = {row[:5]: row[5:12] for row in rows}
    assert len(found) == len(rows)
    wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    assert [(len(wrong), key, found.get(key), expected.get(key)) for key in wrong[:5]] == []
    for *_, least, most, _, _, _, median, others in rows:
        assert least <= median <= most
        assert others.startswith('{"p75": ')
    groups: dict[Any, list[float]] = defaultdict(list)
    for event in sent.counted:
        groups[micros(event["event_time"]) // 10_000_000 * 10_000_000, event["device"], event["channel"]].append(event["value"])
    assert {tuple(row[:3]): row[3] for row in deviations} == {
        key: statistics.stdev(values) if len(values) > 1 else None for key, values in groups.items()
    }
    assert alerts > 0


def test_a_log_read_to_its_end_gives_the_sessions_of_plain_python(tmp_path: Path) -> None:
    sent = fleet(11)
    connect(f"local:{tmp_path}/log?partitions=2").publisher().publish(sent.messages)
    job = Job(tmp_path, TOPICS, PIPELINE)
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)


def test_killed_at_any_moment_its_sessions_are_whole(tmp_path: Path) -> None:
    sent = fleet(12, seconds=900)
    chance = random.Random(12)
    publisher = connect(f"local:{tmp_path}/log?partitions=2").publisher()
    job = Job(tmp_path, TOPICS, PIPELINE)
    job.start()
    for piece in pieces(sent.messages, 6):
        for part in pieces(piece, 25):
            publisher.publish(part)
            time.sleep(0.02)
        runner = job.runner()
        job.wait_for(lambda status: status["totals"]["events"] > 0)
        time.sleep(chance.uniform(0, 1.5))
        job.kill()
        assert ends(runner)
        job.start()
    job.wait_for(lambda status: status["caught_up"] and status["totals"]["events"] > 0)
    job.kill()
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)
