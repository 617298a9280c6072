"""The embedded log on a disk that is full: it says so, loses nothing, and goes on by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers.kit import ROOT

#: Publishes until nothing can be stored, makes room, publishes on, and checks all of it. Arguments: URL, and
#: "limit" or the path of a file to be removed for room.
FILL = """
import sys
from brokers import Message, PublishError, connect
broker = connect(sys.argv[1])
publisher, stored, number = broker.publisher(), 0, 0
make_room = lambda: None
if sys.argv[2] == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    make_room = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    import os
    ballast = sys.argv[2]
    open(ballast, "wb").write(bytes(1_000_000))
    make_room = lambda: os.unlink(ballast)
full = 0
while full < 5:
    if stored == 1_000:
        sys.exit("the disk never was full")
    try:
        publisher.publish([Message("t", "key", b"%d " % stored + bytes(9_000))])
        stored, full = stored + 1, 0
    except PublishError as error:
        assert error.unacknowledged == (0,) and error.refused == (), error
        assert "disk is full" in error.message and "'t'" in error.message and error.remedy, error
        full += 1  # the write-ahead log may give some room once more: full is what stays full
make_room()
for _ in range(20):
    publisher.publish([Message("t", "key", b"%d " % stored + bytes(9_000))])
    stored += 1
publisher.close()
reader = broker.log_reader()
numbers, offset = [], 0
while records := reader.read("t", 0, offset, max_records=100, max_bytes=1 << 20):
    numbers += [int(record.value.split()[0]) for record in records]
    offset = records[-1].offset + 1
assert numbers == list(range(stored)), numbers
print(stored)
"""


@pytest.mark.slow
def test_a_limit_on_file_size_stops_publishing_by_name_until_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, f"local:{tmp_path}/log", "limit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20


@pytest.mark.slow
def test_a_full_disk_stops_publishing_by_name_until_there_is_room(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=3m none {tmp_path} && exec "
    able = subprocess.run(["unshare", "--mount", "sh", "-c", mount + "true"], capture_output=True, text=True, check=False)
    if able.returncode:
        pytest.skip(f"this user may not mount a small disk: {able.stderr.strip()}")
    command = f'{mount} {sys.executable} -c "$0" local:{tmp_path}/log {tmp_path}/ballast'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, FILL], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20
