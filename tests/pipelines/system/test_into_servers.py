"""The real-time job into databases that die meanwhile: the same rows as in a file beside them, and as of plain Python."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brokers import Message, connect
from tests.pipelines.fleet import TOPICS, difference, fleet, pieces, rows_of
from tests.pipelines.system.job import Job
from tests.servers.broker_server import Servers
from tests.servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.slow
SIZES = ((10, 10), (30, 10))
TABLES = {
    "aggregates": 'device, channel, "count", "sum", "mean", "min", "max", pane',
    "latest": "device, channel, gateway, epoch, seq, value, text",
    "gaps": 'topic, gateway, epoch, "first", "last", "count", state, reason',
    "dead_letters": 'topic, "partition", "offset", reason, frame',
}


@pytest.fixture
def database(servers: Servers) -> PostgresqlServer:
    found = servers["postgresql"]
    assert isinstance(found, PostgresqlServer)
    return found


def begun(folder: Path, first: Sequence[Message], *sink: str) -> Job:
    """A job that has written something of ``first`` and waits for more."""
    publish(folder, first)
    job = Job(folder, TOPICS)
    job.start(*sink)
    job.wait_for(lambda status: status["caught_up"] and status["totals"]["rows"] > 0)
    return job


def publish(folder: Path, messages: Sequence[Message]) -> None:
    connect(f"local:{folder}/log?partitions=2").publisher().publish(messages)


def tries(job: Job) -> int:
    """How often a write was tried again."""
    return (job.folder / "job.log").read_text().count("stamina.retry_scheduled")


def check(job: Job, database: PostgresqlServer, schema: str) -> None:
    """That the server has the very rows of the file."""
    with closing(sqlite3.connect(job.results)) as file:
        for table, columns in TABLES.items():
            expected: list[Any] = file.execute(f"SELECT {columns} FROM {table}").fetchall()
            assert expected
            assert sorted(map(str, database.query(f"SELECT {columns} FROM {schema}.{table}"))) == sorted(map(str, expected)), (
                table
            )


def test_a_database_killed_while_the_job_writes_has_the_rows_of_plain_python(tmp_path: Path, database: PostgresqlServer) -> None:
    sent = fleet(11)
    sink = ("--sink", database.url(schema="killed"))
    first, *others = pieces(sent.messages, 3)
    job = begun(tmp_path, first, *sink)
    for part in others:
        before = tries(job)
        database.process.kill()
        publish(tmp_path, part)
        job.wait_for(lambda _, before=before: tries(job) > before + 1)
        database.process.start()
    job.terminate()
    assert job.wait(120) == 0, job.log()
    assert job.run("--until-end", *sink) == 0, job.log()
    assert difference(rows_of(job.results)[0], sent.windows(SIZES)) == []
    check(job, database, "killed")


def test_a_database_away_for_too_long_ends_the_job_which_goes_on_from_there(tmp_path: Path, database: PostgresqlServer) -> None:
    sent = fleet(12)
    sink = ("--sink", database.url(schema="away", retry="1s"))
    first, second = pieces(sent.messages, 2)
    job = begun(tmp_path, first, *sink)
    database.process.kill()
    publish(tmp_path, second)
    assert job.wait(120) != 0, job.log()
    assert "StoreUnavailable" in job.log()
    database.process.start()
    assert job.run("--until-end", *sink) == 0, job.log()
    assert difference(rows_of(job.results)[0], sent.windows(SIZES)) == []
    check(job, database, "away")
