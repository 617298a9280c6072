"""The journal while parts of a real HDFS with three DataNodes die and come back: each append is whole, or not there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.registry import Schemas
from storage import Journal, StoreError, StoreUnavailable, open_journal
from storage.files.webhdfs import open_webhdfs
from tests.servers.broker_server import Servers
from tests.servers.hdfs import HdfsServer
from tests.storage.frames import RECORD_KINDS, records
from tests.storage.journal_contract import TOPIC, values

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
LARGE = uuid.uuid4().bytes * (40 << 16)


@pytest.fixture
def server(servers: Servers) -> HdfsServer:
    found = servers["hdfs"]
    assert isinstance(found, HdfsServer)
    return found


@pytest.fixture
def root() -> str:
    return f"/tests/{uuid.uuid4().hex}"


def journal_at(url: str) -> Journal:
    return open_journal(url, Schemas.with_shipped())


def kept(journal: Journal) -> list[str]:
    """The kinds of the records that are there, each as it was appended."""
    found = list(journal.read(TOPIC, 0))
    return ["".join(kind for kind in "rc" if RECORD_KINDS[kind](place) == one.value) for place, one in enumerate(found)]


def until(condition: Callable[[], Any], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class Writing:
    """A large file being written by a thread of its own, in blocks so small that it takes a while."""

    def __init__(self, url: str) -> None:
        self.system, _ = open_webhdfs(url)
        self.attempts = 0
        self.failed: list[BaseException] = []
        write = self.system._client.write

        def counted(*arguments: Any, **options: Any) -> None:
            self.attempts += 1
            write(*arguments, **options)

        self.system._client.write = counted
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.system.create("folder/large", LARGE)
        except StoreError as error:
            self.failed.append(error)

    def under_way(self) -> bool:
        """The cluster has begun to write it."""
        assert self._thread.is_alive(), "it was written before anything could go wrong"
        return bool(self.system.names(".staging"))

    def finish(self) -> None:
        self._thread.join(150)
        assert not self._thread.is_alive()
        assert self.failed == []

    def check(self) -> None:
        with self.system.open("folder/large") as file:
            assert file.read() == LARGE
        assert self.system.names("folder") == ["large"]


def small_blocks(server: HdfsServer, root: str, **options: str) -> str:
    return server.url(root, blocksize="256KiB", **options)


def test_the_datanode_that_serves_the_write_is_killed(server: HdfsServer, root: str) -> None:
    writing = Writing(small_blocks(server, root, replication="2"))
    until(writing.under_way)
    (serving,) = [node for node in server.datanodes if node.serving]
    serving.kill()
    writing.finish()
    assert writing.attempts > 1
    writing.check()


def test_a_datanode_that_keeps_a_copy_is_killed(server: HdfsServer, root: str) -> None:
    writing = Writing(small_blocks(server, root, replication="3"))
    until(writing.under_way)
    next(node for node in server.datanodes if not node.serving).kill()
    writing.finish()
    writing.check()


def test_the_namenode_is_killed_and_started_again(server: HdfsServer, root: str) -> None:
    writing = Writing(small_blocks(server, root, replication="1", timeout="5s", patience="120s"))
    until(writing.under_way)
    server.namenode.kill()
    server.namenode.start()
    writing.finish()
    assert writing.attempts > 1
    writing.check()


def test_safe_mode_is_waited_for_and_then_unavailable(server: HdfsServer, root: str) -> None:
    journal = journal_at(server.url(root))
    journal.append(TOPIC, 0, records("rr"), first=0)
    server.admin("-safemode", "enter")
    try:
        with pytest.raises(StoreUnavailable, match="safe mode"):
            journal_at(server.url(root, patience="1s")).append(TOPIC, 0, records("r", first=2), first=2)
        assert [found.offset for found in journal.read(TOPIC, 0)] == [0, 1]
        waiting = threading.Thread(target=journal.append, args=(TOPIC, 0, records("c", first=2)), kwargs={"first": 2})
        waiting.start()
    finally:
        server.admin("-safemode", "leave")
    waiting.join(60)
    assert kept(journal) == ["r", "r", "c"]


def test_the_only_datanode_is_gone(tmp_path: Path, root: str) -> None:
    server = HdfsServer(tmp_path, datanodes=1)
    try:
        server.process.start()
        journal = journal_at(server.url(root, patience="2s"))
        journal.append(TOPIC, 0, records("rr"), first=0)
        server.datanodes[0].kill()
        for attempt in range(2):
            with pytest.raises(StoreUnavailable):
                journal.append(TOPIC, 0, records("r", first=2), first=2)
            with pytest.raises(StoreUnavailable):
                list(journal.read(TOPIC, 0))
            if not attempt:
                # It says something else once the NameNode has noticed.
                until(lambda: server.live_datanodes() == 0)
        assert journal.next_offset(TOPIC, 0) == 2
        server.process.start()
        journal_at(server.url(root)).append(TOPIC, 0, records("r", first=2), first=2)
        assert kept(journal) == ["r", "r", "r"]
    finally:
        server.process.stop()
        server.proxy.close()


@pytest.mark.parametrize("trouble", ["cut", "hang"])
def test_requests_that_get_no_answer_double_nothing(server: HdfsServer, root: str, trouble: str) -> None:
    """What becomes of a request to the NameNode whose connection fails is not known; appends go on whole and in order."""
    journal = journal_at(server.proxied_url(root, timeout="1s", patience="60s"))
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(0.3):
            getattr(server.proxy, trouble)()
            done.wait(0.1)
            server.proxy.restore()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        sent = records("rcx" * 20)
        position = 0
        while position < len(sent):
            position = journal.append(TOPIC, 0, sent[position : position + 3], first=position)
    finally:
        done.set()
        disturbing.join()
        server.proxy.restore()
    assert values(list(journal.read(TOPIC, 0))) == values(sent)


KILLED = """
import sys
from schemas.registry import Schemas
from storage import open_journal
from storage.errors import Overtaken
from tests.storage.frames import records
journal = open_journal(sys.argv[1], Schemas.with_shipped())
position = journal.next_offset("t", 0) or 0
while True:
    try:
        position = journal.append("t", 0, records("rcx" * 20, first=position), first=position)
        print(position, flush=True)
    except Overtaken as overtaken:
        position = overtaken.next_offset
"""


def test_a_writer_killed_at_any_moment_leaves_whole_appends_and_the_next_goes_on(server: HdfsServer, root: str) -> None:
    told = 0
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, server.url(root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.1 * round_)
        process.kill()
        told = max([told, *(int(line) for line in [first, *process.stdout.read().splitlines()] if line.strip().isdigit())])
        process.communicate()
    journal = journal_at(server.url(root))
    end = journal.next_offset("t", 0)
    assert end is not None
    assert end >= told > 0
    expected = [(offset, value) for offset, _, _, value in records("rcx" * (end // 3))]
    assert [(found.offset, found.value) for found in journal.read("t", 0)] == expected
