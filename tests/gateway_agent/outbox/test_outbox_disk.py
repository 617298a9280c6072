"""What the outbox makes of disks that are full or away, and of a backlog that has drained."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.outbox import Batch, Offer, Outbox, OutboxError
from tests.gateway_agent.kit import eventually
from tests.gateway_agent.outbox.kit import BLOB, MAIN, Route, batch, blob_tail, open_outbox, publish_all, values


def test_room_is_given_back_to_the_disk_when_a_backlog_has_drained(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    camera = Route("s.a.frames", MAIN, BLOB)
    for _ in range(60):
        outbox.accept(Batch("app", [Offer(camera, [blob_tail(200_000)])]))

    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("outbox.sqlite*"))

    full = size()
    assert full > 12_000_000
    publish_all(outbox)
    eventually(lambda: size() < 1_000_000, what="a small file")
    outbox.close()


def test_a_full_disk_stops_accepting_says_so_and_goes_on_by_itself(tmp_path: Path) -> None:
    """SQLite itself says that the disk is full, as with ENOSPC, while its file may not grow."""
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    ledger = outbox._ledger
    pages = ledger.connection.execute("PRAGMA page_count").fetchone()[0]
    with outbox._books:
        ledger.connection.execute(f"PRAGMA max_page_count={pages + 2}")
    done: list[Any] = []
    camera = Route("s.a.frames", MAIN, BLOB)
    outbox.submit(Batch("app", [Offer(camera, [blob_tail(200_000)])], b'"full"'), done.append)
    eventually(lambda: "full" in outbox.status().refusing, what="the outbox says that the disk is full")
    assert done == []
    assert outbox.state_of("app") is None
    # What is there can still be published and let go of.
    assert values([held.body for held in publish_all(outbox)]) == [1.0]
    eventually(lambda: outbox.status().published == 1, what="the published frame let go")
    with outbox._books:
        ledger.connection.execute("PRAGMA max_page_count=1073741823")
    eventually(lambda: done, what="the batch accepted")
    assert done == [None]
    assert outbox.status().refusing == ""
    assert outbox.state_of("app") == b'"full"'
    outbox.close()


def test_a_disk_that_lets_nothing_be_removed_stops_accepting_says_so_and_goes_on_when_it_is_well(tmp_path: Path) -> None:
    """As one that has become read-only: what should be the reserve can be neither made nor removed."""
    reserve = tmp_path / "outbox.reserve"
    (reserve / "in the way").mkdir(parents=True)
    outbox = open_outbox(tmp_path)
    assert outbox.status().refusing
    done: list[Any] = []
    outbox.submit(batch([1.0]), done.append)
    eventually(lambda: "reserve" in outbox.status().refusing)
    assert (done, outbox.failed) == ([], None)
    shutil.rmtree(reserve)
    eventually(lambda: done, what="the batch accepted")
    assert done == [None]
    assert outbox.status().refusing == ""
    outbox.close()


class Sick:
    """A connection to a disk on which writing fails, and taking back what was written too."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.failing: tuple[str, ...] = ()
        self.well = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        if not self.well and statement.startswith((*self.failing, "COMMIT", "ROLLBACK", "PRAGMA wal_checkpoint")):
            raise sqlite3.OperationalError("disk I/O error")
        return self.connection.execute(statement, *rest)


def sicken(outbox: Outbox, *failing: str) -> Sick:
    """Have the disk fail, for statements that begin like this too."""
    ledger: Any = outbox._ledger
    with outbox._books:
        sick = ledger.connection = Sick(ledger.connection)
        sick.failing = failing
    return sick


def test_counts_are_right_after_a_disk_on_which_nothing_could_even_be_taken_back(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    sick = sicken(outbox)
    done: list[Any] = []
    outbox.submit(batch([2.0, 3.0]), done.append)
    eventually(lambda: "I/O error" in outbox.status().refusing)
    assert done == []
    sick.well = True
    eventually(lambda: done, what="the batch accepted")
    status = outbox.status()
    assert (done, status.accepted, status.buffered_events) == ([None], 3, 3)
    assert values([held.body for held in publish_all(outbox)]) == [1.0, 2.0, 3.0]
    outbox.close()


def test_a_disk_that_cannot_be_read_for_a_while_ends_nothing(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    sick = sicken(outbox, "SELECT")
    assert outbox.hand_out(MAIN, after=-1, timeout=0.1) == []
    assert "I/O error" in outbox.status().refusing
    assert outbox.failed is None
    sick.well = True
    assert values([held.body for held in publish_all(outbox)]) == [1.0]
    eventually(lambda: outbox.status().refusing == "")
    outbox.close()


def test_what_is_let_go_of_is_remembered_without_its_body_while_the_disk_is_away(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    sick = sicken(outbox)
    held = outbox.hand_out(MAIN, after=-1)
    outbox.let_go(held)
    eventually(lambda: outbox.status().refusing)
    bodies = {id(one.body) for one in held}
    kept = gc.get_referents(*(one for left in list(outbox._committer._queue._settlements) for one in left.published))
    assert kept
    assert bodies.isdisjoint(map(id, kept))
    sick.well = True
    eventually(lambda: outbox.status().published == 1)
    outbox.close()


def test_an_error_that_nobody_foresaw_is_said_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)

    def broken(_: OutboxError | None) -> None:
        raise RuntimeError("of the caller")

    outbox.submit(batch([1.0]), broken)
    eventually(lambda: outbox.failed)
    with pytest.raises(OutboxError, match="RuntimeError: of the caller"):
        outbox.accept(batch([2.0]), timeout=5)
    outbox.close()


_ON_A_SMALL_DISK = """
import os, subprocess, sys, threading, time
from pathlib import Path
from gateway_agent.outbox import Batch, Choice, Offer, Outbox, Route
from schemas.registry import shipped
from schemas.frame import encode_tail
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=True)
outbox = Outbox(disk, gateway="g", transports=["main"])
blob = shipped("Blob")
tail = encode_tail(blob, dict(device="d", channel="c", event_time=0, content_type="x", value=bytes(150_000)))
accepted = []
def fill():
    while True:
        try:
            outbox.accept(Batch("a", [Offer(Route("s.a.c", "main", blob), [tail])]), timeout=3600)
        except Exception:
            return
        accepted.append(1)
threading.Thread(target=fill, daemon=True).start()
def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)
until(lambda: outbox.status().refusing, "says that the disk is full")
at_full = len(accepted)
published, after = 0, -1
deadline = time.monotonic() + 120
while len(accepted) < at_full + 100:
    assert time.monotonic() < deadline, "goes on by itself"
    held = outbox.hand_out("main", after=after, max_frames=8, timeout=0.5)
    if held:
        after = held[-1].id
        published += sum(one.count for one in held)
        outbox.let_go(held)
while held := outbox.hand_out("main", after=after, max_frames=8, timeout=1.0 if outbox.status().buffered_events else 0):
    after = held[-1].id
    published += sum(one.count for one in held)
    outbox.let_go(held)
    if published > 4 * at_full + 400:
        break
status = outbox.status()
assert status.dropped == 0 and published <= status.accepted, status
outbox.close()
print("survived", at_full, published)
"""


def _can_mount() -> bool:
    probe = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not _can_mount(), reason="mounting a small disk needs a user namespace of one's own")
def test_a_real_disk_that_is_full_is_survived_and_drained(tmp_path: Path) -> None:
    """Guarantee: with ENOSPC nothing that was accepted is lost, publishing goes on, and with it accepting."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "fill.py"
    script.write_text(_ON_A_SMALL_DISK)
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, str(script), str(disk)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "survived" in done.stdout
