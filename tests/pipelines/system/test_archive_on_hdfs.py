"""The job ``archive`` into a real HDFS: alone, killed, and two of them on one topic by mistake."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from brokers import Message, connect
from pipelines.archive import ArchiveLimits, archive_once
from schemas.registry import Schemas
from storage import Journal, open_journal
from tests.pipelines.system.job import ROOT
from tests.servers.broker_server import Servers
from tests.servers.hdfs import HdfsServer
from tests.storage.frames import records

TOPIC = "site.app.temperature"
pytestmark = pytest.mark.slow


@pytest.fixture
def archive(servers: Servers) -> str:
    server = servers["hdfs"]
    assert isinstance(server, HdfsServer)
    return server.url(f"/tests/{uuid.uuid4().hex}", replication="2", blocksize="1MiB")


@pytest.fixture
def log(tmp_path: Path) -> str:
    return f"local:{tmp_path}/log"


def publish(log: str, kinds: str, *, first: int = 0) -> list[bytes]:
    values = [value for *_, value in records(kinds, first=first)]
    publisher = connect(log).publisher()
    publisher.publish([Message(TOPIC, "g", value) for value in values])
    publisher.close()
    return values


def journal_at(url: str) -> Journal:
    return open_journal(url, Schemas.with_shipped())


def kept(url: str) -> list[bytes]:
    found = list(journal_at(url).read(TOPIC, 0))
    assert [one.offset for one in found] == list(range(len(found)))
    return [one.value for one in found]


def job(folder: Path, log: str, archive: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.run", "archive", "--source", f"{log}/{TOPIC}", "--archive", archive]
    with (folder / "job.log").open("ab") as out:
        return subprocess.Popen([*command, "--state", str(folder / uuid.uuid4().hex), *more], cwd=ROOT, stdout=out, stderr=out)


def test_what_is_in_the_log_is_archived(tmp_path: Path, log: str, archive: str) -> None:
    sent = publish(log, "rcxs" * 500)
    assert job(tmp_path, log, archive, "--until-end").wait(120) == 0, (tmp_path / "job.log").read_text()[-3000:]
    assert kept(archive) == sent
    sent += publish(log, "r" * 100, first=2000)
    assert job(tmp_path, log, archive, "--until-end").wait(120) == 0
    assert kept(archive) == sent


def test_two_jobs_on_one_topic_and_one_killed_double_and_lose_nothing(tmp_path: Path, log: str, archive: str) -> None:
    """Both write what is left when they are told to end; the first is killed while it does."""
    sent = publish(log, "rc" * 100)
    running = [tmp_path / "first.json", tmp_path / "second.json"]
    jobs = [job(tmp_path, log, archive, "--status-file", str(path)) for path in running]
    try:
        deadline = time.monotonic() + 120
        while not all(path.exists() for path in running):
            assert time.monotonic() < deadline, (tmp_path / "job.log").read_text()[-3000:]
            time.sleep(0.05)
        sent += publish(log, "rcs" * 2000, first=200)
        for one in jobs:
            one.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        jobs[0].kill()
        assert jobs[1].wait(120) == 0, (tmp_path / "job.log").read_text()[-3000:]
    finally:
        for one in jobs:
            one.kill()
            one.wait()
    assert job(tmp_path, log, archive, "--until-end").wait(120) == 0
    assert kept(archive) == sent


def test_two_archivers_in_a_race_keep_every_record_once(log: str, archive: str) -> None:
    sent = publish(log, "rcs" * 60)
    failed: list[BaseException] = []

    def run(limit: int) -> Callable[[], None]:
        def copy() -> None:
            journal, reader = journal_at(archive), connect(log).log_reader()
            try:
                while not archive_once(reader, journal, TOPIC, 0, ArchiveLimits(records=limit), now=0, flush=True).complete:
                    pass
            except BaseException as error:
                failed.append(error)
            finally:
                reader.close()

        return copy

    threads = [threading.Thread(target=run(limit)) for limit in (7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert kept(archive) == sent
