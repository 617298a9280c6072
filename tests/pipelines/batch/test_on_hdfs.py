"""Batch jobs on an archive on a real HDFS: they come to what they come to on the local disk, whatever dies meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
import requests
from hdfs import InsecureClient

from pipelines.run import main
from storage.events.files import open_files
from storage.events.hours import events_of
from storage.events.layout import hours
from storage.files.webhdfs import open_webhdfs
from tests.pipelines.batch.recorded import day, events, expected, record, same
from tests.pipelines.batch.test_reprocess import PIPELINE
from tests.pipelines.fleet import TOPICS, difference, micros, rows_of
from tests.pipelines.system.job import ROOT
from tests.servers.broker_server import Servers
from tests.servers.hdfs import HdfsServer

pytestmark = pytest.mark.slow
MESSAGES = day(end=240)
LATE = [events(TOPICS[0], "late", range(5, 8)), events(TOPICS[0], "late", range(100, 120)), events(TOPICS[1], "late", range(5))]


@pytest.fixture
def server(servers: Servers) -> HdfsServer:
    found = servers["hdfs"]
    assert isinstance(found, HdfsServer)
    return found


@pytest.fixture
def root() -> str:
    return f"/tests/{uuid.uuid4().hex}"


@pytest.fixture
def archive(server: HdfsServer, root: str) -> str:
    return server.url(root, replication="2", blocksize="1MiB")


def run(job: str, archive: str, *more: str) -> int:
    return main([job, "--archive", archive, *more])


def stored(archive: str) -> list[dict[str, Any]]:
    """All events as any Avro reader finds them, in the order of hours; times in µs."""
    files = open_files(archive)
    rows: list[dict[str, Any]] = []
    for hour in hours(files):
        for name in files.list(hour.path):
            if name.startswith("part-"):
                with files.open(f"{hour.path}/{name}") as file:
                    found: list[Any] = list(fastavro.reader(file))
                assert all(hour.start <= micros(event["event_time"]) < hour.end for event in found)
                rows += [{key: micros(v) if isinstance(v, datetime) else v for key, v in event.items()} for event in found]
    return rows


def tree(archive: str) -> dict[str, int]:
    """Files of hours, each with the number that no other file ever has."""
    system, _ = open_webhdfs(archive)
    files = open_files(archive)
    paths = [f"{hour.path}/{name}" for hour in hours(files) for name in files.list(hour.path)]
    return {path: int(system._status(path)["fileId"]) for path in paths}


def left_over(archive: str) -> list[str]:
    return open_webhdfs(archive)[0].names("events/.staging")


def test_events_are_those_of_the_local_disk_and_only_what_is_new_changes(
    tmp_path: Path, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    local = f"files:{tmp_path}/archive"
    for url in (archive, local):
        record(url, MESSAGES)
        assert run("compact", url) == 0
    before = tree(archive)
    assert stored(archive) == stored(local)
    assert same(stored(archive), expected(MESSAGES))
    capsys.readouterr()
    assert run("compact", archive) == 0
    assert "0 from the journal" in capsys.readouterr().out
    assert tree(archive) == before
    for url in (archive, local):
        record(url, [*LATE, *MESSAGES[:3]])
        assert run("compact", url, "--runner", "PrismRunner" if url == archive else "DirectRunner") == 0
        assert run("verify", url, "--against-journal", "--accept-missing") == 0
        assert run("export", url, "--output", f"{tmp_path}/{url[:4]}") == 0
    changed = {path.split("/")[3] for path, number in tree(archive).items() if before.get(path) != number}
    assert changed == {"hour=00", "hour=01"}
    assert stored(archive) == stored(local)
    exported = [{path.name: path.read_text() for path in (tmp_path / name).iterdir()} for name in ("hdfs", "file")]
    assert exported[0] == exported[1]
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    rows = []
    for url in (archive, local):
        results = tmp_path / f"{url[:4]}.sqlite"
        assert run("reprocess", url, "--pipeline", f"{tmp_path}/pipeline.toml", "--sink", f"sqlite:{results}") == 0
        rows.append(rows_of(results)[0])
    assert difference(*rows) == []
    assert run("retention", archive, "--before", "2010-05-09T02:00") == 0
    assert {row["seq"] for row in stored(archive)} == set(range(120, 240))
    assert run("verify", archive, "--accept-missing") == 0
    assert left_over(archive) == []


def test_parquet(archive: str) -> None:
    for messages in (MESSAGES[:4], MESSAGES[2:6]):
        record(archive, messages)
        assert run("compact", archive, *(["--format", "parquet"] if messages is MESSAGES[:4] else [])) == 0
    assert run("verify", archive, "--against-journal") == 0


def test_of_two_at_once_one_is_refused(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    record(archive, MESSAGES[:3])
    with open_files(archive).alone():
        assert run("compact", archive) == 1
    assert "another job is changing these events" in capsys.readouterr().err
    assert run("compact", archive) == 0


def test_a_reader_finds_an_hour_as_it_was_or_as_it_is(archive: str) -> None:
    record(archive, MESSAGES[:3])
    assert run("compact", archive) == 0
    counts: list[int] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        files = open_files(archive)
        while not done.is_set():
            try:
                (hour,) = hours(files)
                counts.append(sum(len(table) for _, table in events_of(files, hour)))
            except BaseException as error:
                failed.append(error)
                return

    reading = threading.Thread(target=read)
    reading.start()
    for number in range(3):
        record(archive, [events(TOPICS[0], f"late-{number}", range(10))])
        assert run("compact", archive) == 0
    done.set()
    reading.join()
    assert failed == []
    assert set(counts) <= {60, 70, 80, 90}
    assert counts == sorted(counts)


#: Compacts in children, each killed before a later request than the one before, until one comes to its end.
KILLER = """
import os, signal, sys
from pipelines.batch import compact, compacting, running
def work(left):
    def hook(event, arguments):
        nonlocal left
        if event == "http.client.send" and bytes(arguments[1][:4]) in (b"PUT ", b"DELE", b"POST"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    os._exit(compact.main(["--archive", sys.argv[1], "--progress", "never"]))
for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            work(int(line))
        finally:
            os._exit(99)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""


def test_killed_again_and_again_it_comes_to_the_same(archive: str) -> None:
    """No wait for the lease: a process of this machine is known to be dead."""
    record(archive, MESSAGES[:6])
    assert run("compact", archive) == 0
    record(archive, [*MESSAGES[6:], *LATE, *MESSAGES[:3]])
    wanted = expected([*MESSAGES, *LATE])
    counts = [120]
    ended: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLER, archive], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while 0 not in ended:
            process.stdin.write(f"{3 + 14 * len(ended)}\n")
            process.stdin.flush()
            while not (line := process.stdout.readline()).startswith("ended"):
                assert line
            ended.append(int(line.split()[1]))
            found = stored(archive)
            assert len({(row["topic"], row["gateway"], row["seq"]) for row in found}) == len(found)
            counts.append(len(found))
    assert set(ended[:-1]) == {signal.SIGKILL}
    assert len(ended) > 4
    # No event was ever gone that had been there.
    assert counts == sorted(counts)
    assert same(stored(archive), wanted)
    assert run("verify", archive, "--against-journal", "--accept-missing") == 0
    assert left_over(archive) == []


def test_a_datanode_killed_while_it_writes(server: HdfsServer, root: str) -> None:
    archive = server.url(root, replication="2", blocksize="64KiB")
    pieces = [(f"g{gateway}", range(start, start + 500)) for gateway in range(60) for start in (0, 500)]
    messages = [events(TOPICS[0], gateway, numbers, every=1.0) for gateway, numbers in pieces]
    record(archive, messages)
    failed: list[int] = []

    def kill() -> None:
        system, _ = open_webhdfs(archive)
        until = time.monotonic() + 60
        while not failed and time.monotonic() < until:
            if any(name.endswith(".arrow") for key in left_over(archive) for name in _below(system, f"events/.staging/{key}")):
                server.datanodes[0].kill()
                failed.append(1)

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        assert run("compact", archive) == 0
    finally:
        killing.join()
        server.process.start()
    assert failed
    assert same(stored(archive), expected(messages))
    assert run("verify", archive) == 0


def _below(system: Any, folder: str) -> list[str]:
    return [name for one in system.names(folder) for name in system.names(f"{folder}/{one}")]


@pytest.mark.parametrize("trouble", ["quota", "safe mode", "room for a block"])
def test_without_room_it_says_so_and_nothing_is_half_done(
    server: HdfsServer, root: str, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = server.url(root, replication="1", blocksize="1MiB", patience="1s")
    record(archive, MESSAGES[:6])
    assert run("compact", archive) == 0
    before = tree(archive)
    record(archive, [*MESSAGES[6:9], *LATE])

    def limit(number: int) -> None:
        setting = f"op=SETQUOTA&user.name={server.user}&storagespacequota={number}"
        requests.put(f"http://127.0.0.1:{server.port}/webhdfs/v1{root}?{setting}", timeout=20).raise_for_status()

    asked = archive
    if trouble == "quota":
        client = InsecureClient(f"http://127.0.0.1:{server.port}", user=server.user)
        limit(client.content(root)["spaceConsumed"] + 100_000)
    elif trouble == "safe mode":
        server.admin("-safemode", "enter")
    else:
        asked = archive.replace("1MiB", "1000GB")
    try:
        assert run("compact", asked) == 1
        assert tree(archive) == before
    finally:
        if trouble == "quota":
            limit(1 << 40)
        elif trouble == "safe mode":
            server.admin("-safemode", "leave")
    assert trouble in capsys.readouterr().err
    assert run("compact", archive) == 0
    assert same(stored(archive), expected([*MESSAGES[:9], *LATE]))
    assert left_over(archive) == []
