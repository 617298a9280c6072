"""The real-time job into databases that die meanwhile: the same rows as in a file beside them, and as of plain Python."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brokers import Message, connect
from brokers.contract import require_log
from schemas.registry import Schemas
from storage import open_journal
from tests.pipelines.fleet import TOPICS, difference, fleet, pieces, rows_of
from tests.pipelines.system.databases import NAMES, Database
from tests.pipelines.system.job import PIPELINE, Job
from tests.servers.broker_server import Servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SIZES = ((10, 10), (30, 10))
CREDIT = 100_000
#: What a bundle of each of the four partitions holds at most.
BUNDLES = 4 * 8 * 10_000
SMALL_BLOCKS = PIPELINE.replace("[source]", '[source]\nblock_bytes = "10kB"')
TABLES: dict[str, tuple[str, ...]] = {
    "aggregates": ("device", "channel", "count", "sum", "mean", "min", "max", "pane"),
    "latest": ("device", "channel", "gateway", "epoch", "seq", "value", "text"),
    "gaps": ("topic", "gateway", "epoch", "first", "last", "count", "state", "reason"),
    "dead_letters": ("topic", "partition", "offset", "reason", "frame"),
}


@pytest.fixture(params=NAMES)
def database(request: pytest.FixtureRequest, servers: Servers) -> Database:
    return Database(request.param, servers)


def begun(folder: Path, first: Sequence[Message], *options: str) -> Job:
    """A job that has written something of ``first`` and waits for more."""
    publish(folder, first)
    job = Job(folder, TOPICS, SMALL_BLOCKS)
    job.start(*options)
    job.wait_for(lambda status: status["caught_up"] and status["totals"]["rows"] > 0, timeout=180)
    return job


def publish(folder: Path, messages: Sequence[Message]) -> None:
    connect(f"local:{folder}/log?partitions=2").publisher().publish(messages)


def tries(job: Job) -> int:
    """How often a write was tried again."""
    return (job.folder / "job.log").read_text().count("stamina.retry_scheduled")


def archived(folder: Path) -> bool:
    """Whether the archive has all that is in the log."""
    log = require_log(connect(f"local:{folder}/log"))
    with closing(log), closing(open_journal(f"files:{folder}", Schemas.with_shipped())) as journal:
        return all(
            (journal.next_offset(topic, partition) or 0) == log.end_offset(topic, partition)
            for topic in TOPICS
            for partition in log.partitions(topic)
        )


def check(job: Job, database: Database, place: str) -> None:
    """That the server has the very rows of the file."""
    with closing(sqlite3.connect(job.results)) as file:
        for table, columns in TABLES.items():
            listed = ", ".join(f'"{name}"' for name in columns)
            expected: list[Any] = file.execute(f"SELECT {listed} FROM {table}").fetchall()
            assert expected
            assert sorted(map(str, database.rows(place, table, columns))) == sorted(map(str, expected)), table


def test_a_database_killed_while_the_job_writes_has_the_rows_of_plain_python(tmp_path: Path, database: Database) -> None:
    """Killed twice, once amid many writes: nothing is lost and nothing doubled, in it and in the file that is a sink beside it.

    While it is away the archive goes on to the end of the log, and the job reads no more than its credit and what one bundle
    of a partition holds.
    """
    sent = fleet(11, seconds=900)
    options = ("--sink", database.url("killed", retry="5m"), "--archive", str(tmp_path), "--credit", str(CREDIT))
    first, second, third = sent.messages[:200], *pieces(sent.messages[200:], 2)
    job = begun(tmp_path, first, *options)
    before, read = tries(job), job.wait_for(lambda status: status["caught_up"])["totals"]["bytes"]
    database.process.kill()
    publish(tmp_path, second)
    status = job.wait_for(lambda _: tries(job) > before + 3 and archived(tmp_path))
    assert status["in_flight_bytes"] <= CREDIT
    assert status["totals"]["bytes"] - read < CREDIT + BUNDLES < sum(len(message.value) for message in second)
    database.process.start()
    for number, part in enumerate(pieces(third, 25)):
        publish(tmp_path, part)
        if number == 12:
            before = tries(job)
            database.process.kill()
    job.wait_for(lambda _: tries(job) > before + 1)
    database.process.start()
    job.terminate()
    assert job.wait(180) == 0, job.log()
    assert job.run("--until-end", *options, timeout=180) == 0, job.log()
    assert difference(rows_of(job.results)[0], sent.windows(SIZES)) == []
    check(job, database, "killed")


def test_a_database_away_for_too_long_ends_the_job_which_goes_on_from_there(tmp_path: Path, database: Database) -> None:
    """What the file beside it got meanwhile, and what it did not get, come to the same in the end."""
    sent = fleet(12)
    impatient, patient = ("--sink", database.url("away", retry="1s")), ("--sink", database.url("away", retry="5m"))
    first, second = pieces(sent.messages, 2)
    job = begun(tmp_path, first, *impatient)
    database.process.kill()
    publish(tmp_path, second)
    assert job.wait(120) != 0, job.log()
    assert "StoreUnavailable" in job.log()
    database.process.start()
    assert job.run("--until-end", *patient, timeout=180) == 0, job.log()
    assert difference(rows_of(job.results)[0], sent.windows(SIZES)) == []
    check(job, database, "away")
