"""`Files` on a real HDFS: the contract, kills between any two requests, the lease and what fences it, and no room."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from hdfs import InsecureClient

from schemas.errors import ConfigurationError
from storage.errors import StoreFull, StoreRefused, StoreUnavailable
from storage.events import lease
from storage.events.files import open_files
from storage.events.hdfs import HdfsFiles
from storage.files.webhdfs import open_webhdfs
from tests.servers.broker_server import Servers
from tests.servers.hdfs import HdfsServer
from tests.storage.events.files_contract import HOUR, ROOT, FilesContract, content, put

pytestmark = pytest.mark.slow
DAY = "events/schema=A/dt=2010-05-09"
OLD, NEW = {"part-1": b"old"}, {"part-2": b"new"}


@pytest.fixture
def server(servers: Servers) -> HdfsServer:
    found = servers["hdfs"]
    assert isinstance(found, HdfsServer)
    return found


@pytest.fixture
def url(server: HdfsServer) -> str:
    return server.url(f"/tests/{uuid.uuid4().hex}", replication="1")


def hdfs_files(url: str) -> HdfsFiles:
    files = open_files(url)
    assert isinstance(files, HdfsFiles)
    return files


class TestHdfsFiles(FilesContract):
    @pytest.fixture
    def url(self, server: HdfsServer) -> str:
        return server.url(f"/tests/{uuid.uuid4().hex}", replication="1", blocksize="16MiB")


def names(url: str, folder: str) -> list[str]:
    """As they are, with those that `Files.list` does not show."""
    return open_webhdfs(url)[0].names(folder)


#: For each line on stdin, the number of a request, a child that kills itself before it; says how the child ended.
KILLED = """
import os, signal, sys
from storage.events.files import open_files
from tests.storage.events.files_contract import HOUR
def act(left):
    def hook(event, arguments):
        nonlocal left
        if event == "http.client.send" and bytes(arguments[1][:4]) in (b"PUT ", b"DELE", b"POST"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    files = open_files(sys.argv[1])
    with files.alone():
        if sys.argv[2] == "swap":
            staged = files.stage()
            with files.create(f"{staged}/part-2") as file:
                file.write(b"new")
            sys.addaudithook(hook)
            files.swap(staged, HOUR)
        else:
            sys.addaudithook(hook)
            files.remove(HOUR)
        os._exit(0)
for line in sys.stdin:
    child = os.fork()
    if not child:
        act(int(line))
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.parametrize("action", ["swap", "remove"])
def test_killed_before_any_request_the_old_or_the_new_is_there_and_recover_leaves_nothing_else(url: str, action: str) -> None:
    """Readers find it at once, other systems after `recover`."""
    files = open_files(url)
    ended = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, url, action], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while 0 not in ended:
            with files.alone():
                put(files, HOUR, OLD)
            process.stdin.write(f"{len(ended) + 1}\n")
            process.stdin.flush()
            ended.append(int(process.stdout.readline()))
            found = content(files, HOUR)
            assert found in ([OLD, NEW] if action == "swap" else [OLD, {}])
            assert files.list(DAY) == (["hour=03"] if found else [])
            with files.alone():
                files.recover()
                assert content(files, HOUR) == found
                assert names(url, DAY) == (["hour=03"] if found else [])
                assert names(url, "events/.staging") == []
    assert len(ended) > 4
    assert set(ended[:-1]) == {signal.SIGKILL}


def test_a_lease_is_refused_while_it_is_renewed_and_taken_over_when_it_expired(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process on another machine it is not known whether it lives; this one is stopped, and goes on too late."""
    url = f"{url}&lease=2s"
    with subprocess.Popen(
        [sys.executable, "-c", LATE, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "alone\n"
            monkeypatch.setattr(lease, "_machine", lambda: "another")
            files = open_files(url)
            for _ in range(3):
                # Longer than the lease: it is renewed.
                time.sleep(1)
                with pytest.raises(StoreRefused, match=f"process {process.pid} on ") as refused, files.alone():
                    pass
                assert re.search(r"if it is dead, [123] s", refused.value.remedy)
            process.send_signal(signal.SIGSTOP)
            until = time.monotonic() + 60
            while True:
                assert time.monotonic() < until
                with suppress(StoreRefused), files.alone():
                    files.recover()
                    put(files, HOUR, NEW)
                    process.send_signal(signal.SIGCONT)
                    said = process.communicate("go on\n", timeout=60)[0]
                    break
                time.sleep(0.1)
        finally:
            process.kill()
    assert said.count("another job has taken the place") == 4, said
    assert content(files, HOUR) == NEW
    assert files.list("events") == [".lock", ".staging", "schema=A"]


LATE = """
import sys
from storage.errors import StoreUnavailable
from storage.events.files import open_files
from tests.storage.events.files_contract import HOUR, put
files = open_files(sys.argv[1])
with files.alone():
    staged = files.stage()
    print("alone", flush=True)
    sys.stdin.readline()
    for change in (
        lambda: files.swap(staged, HOUR), lambda: files.replace("events/_progress.json", b"x"), lambda: files.remove(HOUR),
        files.recover,
    ):
        try:
            change()
        except StoreUnavailable as error:
            print(error, flush=True)
"""


def swap(files: HdfsFiles) -> None:
    put(files, HOUR, {"part-3": b"late"})


def replace(files: HdfsFiles) -> None:
    files.replace("events/_progress.json", b"late")


def remove(files: HdfsFiles) -> None:
    files.remove(HOUR)


@pytest.mark.parametrize("change", [swap, replace, remove])
def test_who_loses_the_lease_right_after_it_was_checked_changes_nothing(
    url: str, change: Callable[[HdfsFiles], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one takes over, puts right what it finds, and writes, between the check and what was to come after it."""
    late, other = hdfs_files(f"{url}&lease=1h"), hdfs_files(url)
    with late.alone():
        put(late, HOUR, OLD)
        check = HdfsFiles._check

        def overtaken(files: HdfsFiles) -> None:
            check(files)
            monkeypatch.setattr(HdfsFiles, "_check", check)
            # As if it had expired.
            monkeypatch.setattr(lease, "_ended", lambda _: True)
            with other.alone():
                other.recover()
                put(other, HOUR, NEW)

        monkeypatch.setattr(HdfsFiles, "_check", overtaken)
        with pytest.raises(StoreUnavailable, match="another job has taken the place"):
            change(late)
    assert content(other, HOUR) == NEW
    assert names(url, DAY) == ["hour=03"]
    assert "_progress.json" not in names(url, "events")


def test_of_many_that_want_the_lease_at_once_one_has_it(url: str) -> None:
    got: list[str] = []
    failed: list[BaseException] = []
    start = threading.Barrier(8)
    enough = threading.Barrier(8)

    def take() -> None:
        try:
            start.wait()
            with suppress(StoreRefused), open_files(url).alone() as key:
                got.append(key)
                enough.wait(60)
                return
            enough.wait(60)
        except BaseException as error:
            failed.append(error)

    for _ in range(2):  # The lock is not there yet, and then it is free.
        got.clear()
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(got) == 1


def test_a_gigabyte_is_written_and_read_in_bounded_memory(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIGABYTE, url], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    written, read, before, after = done.stdout.split()
    assert written == read
    assert int(after) - int(before) < 100_000


GIGABYTE = """
import hashlib, os, resource, sys
from storage.events.files import open_files
from tests.storage.events.files_contract import HOUR
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files = open_files(sys.argv[1])
piece = os.urandom(1 << 20)
written = hashlib.sha256()
before = peak()
with files.alone():
    staged = files.stage()
    with files.create(f"{staged}/part") as file:
        for number in range(1024):
            data = number.to_bytes(8, "big") + piece[8:]
            written.update(data)
            file.write(data)
    files.swap(staged, HOUR)
with files.open(f"{HOUR}/part") as file:
    print(written.hexdigest(), hashlib.file_digest(file, "sha256").hexdigest(), before, peak())
"""


def test_no_room_for_the_temporary_file_says_where(url: str) -> None:
    files = open_files(url)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with files.alone():
        staged = files.stage()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(StoreFull, match="File too large") as full, files.create(f"{staged}/part") as file:
                file.write(b"0" * 200_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "TMPDIR" in full.value.remedy
        assert files.list(staged) == []


def test_what_cannot_be_is_refused(url: str, server: HdfsServer) -> None:
    with pytest.raises(ConfigurationError, match="lease"):
        open_files(f"{url}&lease=0s")
    with pytest.raises(ConfigurationError, match="colour"):
        open_files(f"{url}&colour=red")
    client = InsecureClient(f"http://127.0.0.1:{server.port}", user=server.user)
    client.makedirs("/tests/closed", permission="755")
    with pytest.raises(StoreRefused, match="stranger"), open_files(server.url("/tests/closed", user="stranger")).alone():
        pass
