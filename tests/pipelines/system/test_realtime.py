"""The real-time job on Prism, with everything that goes wrong on the way: rows equal to plain Python, exactly."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from brokers import Message, connect
from schemas.frame import encode_frame
from tests.pipelines.fleet import READING, START, TOPICS, Fleet, difference, fleet, pieces, rows_of
from tests.pipelines.system.job import PIPELINE, Job, ends

pytestmark = pytest.mark.slow
SIZES = ((10, 10), (30, 10))


def query(path: Path, text: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(text).fetchall()


def gaps_of(path: Path) -> set[Any]:
    return {tuple(row) for row in query(path, "SELECT topic, gateway, first, last, state FROM gaps WHERE state <> 'closed'")}


def check(job: Job, sent: Fleet) -> None:
    rows, _ = rows_of(job.results)
    assert difference(rows, sent.windows(SIZES)) == []
    assert merged(gaps_of(job.results)) == merged(sent.gaps)
    reasons = [reason for (reason,) in query(job.results, "SELECT reason FROM dead_letters")]
    assert sum(reason.startswith("damaged") for reason in reasons) == sent.damaged
    assert sum(reason.startswith("unknown") for reason in reasons) == sent.unknown
    assert counted(reasons, "future") == sent.future


def counted(reasons: list[str], kind: str) -> int:
    return sum(int(reason.rpartition("(")[2].split()[0]) for reason in reasons if reason.startswith(kind))


def merged(gaps: set[Any]) -> set[Any]:
    """Neighbouring gaps of one state as one: two frames lost in a row are one hole."""
    found: list[list[Any]] = []
    for topic, gateway, first, last, state in sorted(gaps, key=lambda gap: (gap[0], gap[1], gap[4], gap[2])):
        if found and found[-1][0] == topic and found[-1][1] == gateway and found[-1][4] == state and found[-1][3] + 1 == first:
            found[-1][3] = last
        else:
            found.append([topic, gateway, first, last, state])
    return {tuple(gap) for gap in found}


def test_a_log_read_to_its_end_gives_exactly_the_rows_of_plain_python(tmp_path: Path) -> None:
    sent = fleet(1)
    connect(f"local:{tmp_path}/log?partitions=2").publisher().publish(sent.messages)
    job = Job(tmp_path, TOPICS)
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)


def test_a_job_that_waits_for_its_topics_writes_corrections_and_drains(tmp_path: Path) -> None:
    sent = fleet(2, seconds=300)
    job = Job(tmp_path, TOPICS)
    job.start()
    job.wait_for(lambda status: status["phase"] == "running")
    publisher = connect(f"local:{tmp_path}/log").publisher()
    published = 0
    for piece in pieces(sent.messages, 10):
        publisher.publish(piece)
        published += len(piece)
        job.wait_for(lambda status: status["caught_up"] and status["totals"]["frames"] == published)  # noqa: B023
    old = {**sent.counted[0], "gateway": "old", "seq": 0, "event_time": datetime(2001, 1, 1, tzinfo=UTC)}
    publisher.publish([Message(TOPICS[0], "old", encode_frame(READING, [old]))])
    job.wait_for(lambda status: status["totals"]["too_late"] == 1)
    job.terminate()
    assert job.wait() == 0, job.log()
    rows, late = rows_of(job.results)
    expected_rows = sent.windows(SIZES)
    assert late > 0
    # Windows still open were not written, and what was written is whole.
    assert rows.keys() < expected_rows.keys()
    assert difference(rows, {key: expected_rows[key] for key in rows}) == []
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)
    assert counted([reason for (reason,) in query(job.results, "SELECT reason FROM dead_letters")], "too-late") == 1


def test_windows_wait_for_the_slowest_partition_and_are_written_once(tmp_path: Path) -> None:
    """One topic is read at once, the other in many small blocks: no window closes before both have passed it."""
    publisher = connect(f"local:{tmp_path}/log").publisher()
    sent = Fleet()
    for topic, number, padding in ((TOPICS[0], 1, 0), (TOPICS[1], 10, 200)):
        for second in range(1_000):
            for gateway in range(number):
                event = {
                    "gateway": f"gateway-{gateway}",
                    "epoch": 1,
                    "seq": second,
                    "gateway_time": START,
                    "device": f"device-{gateway}-" + "x" * padding,
                    "channel": topic.rpartition(".")[2],
                    "event_time": START + timedelta(seconds=second),
                    "value": float(second),
                }
                sent.counted.append(event)
                sent.messages.append(Message(topic, event["gateway"], encode_frame(READING, [event])))
    publisher.publish(sent.messages)
    job = Job(tmp_path, TOPICS, PIPELINE.replace("[source]", '[source]\nblock_bytes = "14kB"'))
    job.start("--credit", "100000")
    job.wait_for(lambda status: status["caught_up"] and status["totals"]["events"] == len(sent.counted))
    job.terminate()
    assert job.wait() == 0, job.log()
    rows, late = rows_of(job.results)
    expected = sent.windows(SIZES)
    assert len(rows) > len(expected) * 0.9
    assert difference(rows, {key: expected[key] for key in rows}) == []
    assert late == 0
    status = json.loads(next(line for line in reversed(job.log().splitlines()) if '"event": "status"' in line))
    assert status["rows"] == len(rows)


def test_a_hole_is_named_and_holds_back_nothing_while_another_partition_is_years_behind(tmp_path: Path) -> None:
    publisher = connect(f"local:{tmp_path}/log").publisher()

    def reading(topic: str, gateway: str, seq: int, when: datetime) -> Message:
        channel = topic.rpartition(".")[2]
        event = {"gateway": gateway, "epoch": 1, "seq": seq, "gateway_time": START, "device": gateway, "channel": channel}
        return Message(topic, gateway, encode_frame(READING, [{**event, "event_time": when, "value": 1.0}]))

    job = Job(tmp_path, TOPICS)
    publisher.publish([reading(TOPICS[0], "old", seq, datetime(2010, 5, 9, tzinfo=UTC)) for seq in range(5)])
    job.start()
    publisher.publish([reading(TOPICS[1], "new", seq, START + timedelta(seconds=seq)) for seq in (0, 1, 5, 6)])
    job.wait_for(lambda status: status["totals"]["missing"] == 3)
    publisher.publish([reading(TOPICS[1], "new", seq, START + timedelta(hours=1, seconds=seq)) for seq in (7, 8)])
    job.wait_for(lambda status: status["totals"]["events"] == 11 and status["caught_up"])
    publisher.publish([reading(TOPICS[1], "new", seq, START + timedelta(seconds=seq)) for seq in (2, 3, 4)])
    job.wait_for(lambda status: status["totals"]["missing"] == 0)
    job.terminate()
    assert job.wait() == 0, job.log()
    assert gaps_of(job.results) == set()


@pytest.mark.parametrize(("victim", "seed"), [("job", 3), ("runner", 4)])
def test_killed_at_any_moment_and_started_again_it_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, victim: str, seed: int
) -> None:
    sent = fleet(seed, seconds=900)
    chance = random.Random(seed)
    publisher = connect(f"local:{tmp_path}/log?partitions=2").publisher()
    job = Job(tmp_path, TOPICS)
    job.start()
    runner = 0
    for piece in pieces(sent.messages, 6):
        for part in pieces(piece, 25):
            publisher.publish(part)
            time.sleep(0.02)
        runner = job.runner()
        job.wait_for(lambda status: status["totals"]["events"] > 0)
        time.sleep(chance.uniform(0, 1.5))
        if victim == "job":
            job.kill()
        else:
            _kill(runner)
            assert job.wait() == 1
            assert "start the job again" in job.log()
        assert ends(runner)
        job.start()
    job.wait_for(lambda status: status["caught_up"] and status["totals"]["events"] > 0)
    job.kill()
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)


def _kill(number: int) -> None:
    import os
    import signal

    os.kill(number, signal.SIGKILL)
