"""What the outbox makes of disks: full ones, torn ones, damaged ones, and of a backlog that has drained."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.outbox import Batch, Choice, Offer, Outbox, OutboxError
from schemas.control import Dropped, decode_control, is_control
from schemas.frame import decode_frame
from schemas.registry import Schemas
from tests.gateway_agent.kit import Account, eventually
from tests.gateway_agent.outbox.kit import BLOB, GATEWAY, MAIN, Route, batch, blob_tail, publish_all, route


def open_outbox(directory: Path, **options: Any) -> Outbox:
    return Outbox(directory, gateway=GATEWAY, transports=[MAIN], **options)


def values(bodies: list[bytes]) -> list[float]:
    return [event["value"] for event in Account(bodies).events]


def test_what_was_accepted_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    first = open_outbox(tmp_path / "a")
    first.accept(batch([1.0, 2.0], state=b'{"at": 2}'))
    # As after SIGKILL: nothing was closed.
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = open_outbox(tmp_path / "b")
    assert values([held.body for held in publish_all(second)]) == [1.0, 2.0]
    assert second.state_of("app") == b'{"at": 2}'
    assert second.epoch > first.epoch
    first.close()
    second.close()


@pytest.mark.slow
def test_a_torn_end_of_the_log_costs_only_what_was_not_acknowledged(tmp_path: Path) -> None:
    """Guarantee: whatever part of the last, unacknowledged write reached the disk, all before it is intact."""
    outbox = open_outbox(tmp_path / "a")
    outbox.accept(batch([1.0, 2.0, 3.0]))
    wal = tmp_path / "a" / "outbox.sqlite-wal"
    intact = wal.stat().st_size
    outbox.accept(batch([4.0]))
    whole = wal.stat().st_size
    assert whole > intact
    for number, size in enumerate({intact + 1, intact + 100, (intact + whole) // 2, whole - 1}):
        torn = tmp_path / f"torn-{number}"
        shutil.copytree(tmp_path / "a", torn)
        os.truncate(torn / "outbox.sqlite-wal", size)
        survivor = open_outbox(torn)
        assert values([held.body for held in publish_all(survivor)]) == [1.0, 2.0, 3.0]
        survivor.close()
    outbox.close()


def test_a_torn_end_full_of_rubbish_is_cut_off_too(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "a")
    outbox.accept(batch([1.0]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with (tmp_path / "b" / "outbox.sqlite-wal").open("ab") as wal:
        wal.write(os.urandom(20_000))
    survivor = open_outbox(tmp_path / "b")
    assert values([held.body for held in publish_all(survivor)]) == [1.0]
    survivor.close()
    outbox.close()


def test_a_damaged_frame_is_never_sent_never_blocks_and_is_named(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    for value in range(5):
        outbox.accept(batch([float(value)]))
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as connection:
        number, body = connection.execute("SELECT id, body FROM frames WHERE count = 1 AND first = 2").fetchone()
        connection.execute("UPDATE frames SET body = ? WHERE id = ?", (body[:-9] + b"\xff" + body[-8:], number))
    connection.close()
    again = open_outbox(tmp_path)
    bodies = [held.body for held in publish_all(again)]
    account = Account(bodies)
    assert [event["value"] for event in account.events] == [0.0, 1.0, 3.0, 4.0]
    assert [(record.first, record.last, record.reason) for record in account.dropped] == [(2, 2, "damaged")]
    again.accept(Batch("nobody", []))
    status = again.status()
    assert (status.damaged, status.dropped, status.published, status.buffered_events) == (1, 1, 4, 0)
    again.close()


@pytest.mark.parametrize("column", ["stream", "epoch", "first", "count"])
def test_damage_to_what_a_row_says_of_its_frame_is_found_and_does_not_spoil_the_counts(tmp_path: Path, column: str) -> None:
    outbox = open_outbox(tmp_path)
    for value in range(3):
        outbox.accept(batch([float(value), float(value)]))
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as connection:
        connection.execute(f"UPDATE frames SET {column} = {column} + 1048576 WHERE first = 2")
    connection.close()
    again = open_outbox(tmp_path)
    received = [held for held in publish_all(again) if held.count]
    again.accept(Batch("nobody", []))
    status = again.status()
    assert [held.first for held in received] == [0, 4]
    assert (status.published, status.dropped, status.damaged) == (4, 2, 1)
    assert (status.buffered_events, status.buffered_bytes) == (0, 0)
    again.close()


def test_a_body_that_became_a_text_is_what_it_was_and_a_number_that_did_costs_one_frame(tmp_path: Path) -> None:
    """As one flipped bit in the head of a row does."""
    outbox = open_outbox(tmp_path)
    for value in range(4):
        outbox.accept(batch([float(value)]))
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as connection:
        connection.execute("UPDATE frames SET body = CAST(body AS TEXT) WHERE first = 1")
        connection.execute("UPDATE frames SET epoch = CAST(x'fffe' AS TEXT) WHERE first = 2")
    connection.close()
    again = open_outbox(tmp_path)
    account = [held for held in publish_all(again) if held.count]
    again.accept(Batch("nobody", []))
    status = again.status()
    assert [held.first for held in account] == [0, 1, 3]
    assert (status.published, status.dropped, status.damaged) == (3, 1, 1)
    assert (status.buffered_events, status.buffered_bytes) == (0, 0)
    again.close()


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


def test_counts_are_right_after_a_disk_on_which_nothing_could_even_be_taken_back(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    ledger: Any = outbox._ledger
    with outbox._books:
        ledger.connection = Sick(ledger.connection)
    done: list[Any] = []
    outbox.submit(batch([2.0, 3.0]), done.append)
    eventually(lambda: "I/O error" in outbox.status().refusing)
    assert done == []
    ledger.connection.well = True
    eventually(lambda: done, what="the batch accepted")
    status = outbox.status()
    assert (done, status.accepted, status.buffered_events) == ([None], 3, 3)
    assert values([held.body for held in publish_all(outbox)]) == [1.0, 2.0, 3.0]
    outbox.close()


def test_a_disk_that_cannot_be_read_for_a_while_ends_nothing(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    ledger: Any = outbox._ledger
    with outbox._books:
        ledger.connection = Sick(ledger.connection)
        ledger.connection.failing = ("SELECT",)
    assert outbox.hand_out(MAIN, after=-1, timeout=0.1) == []
    assert "I/O error" in outbox.status().refusing
    assert outbox.failed is None
    ledger.connection.well = True
    assert values([held.body for held in publish_all(outbox)]) == [1.0]
    eventually(lambda: outbox.status().refusing == "")
    outbox.close()


def test_what_is_let_go_of_is_remembered_without_its_body_while_the_disk_is_away(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    ledger: Any = outbox._ledger
    with outbox._books:
        ledger.connection = Sick(ledger.connection)
    held = outbox.hand_out(MAIN, after=-1)
    outbox.let_go(held)
    eventually(lambda: outbox.status().refusing)
    bodies = {id(one.body) for one in held}
    kept = gc.get_referents(*(one for left in list(outbox._committer._queue._settlements) for one in left.published))
    assert kept
    assert bodies.isdisjoint(map(id, kept))
    ledger.connection.well = True
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


def test_only_one_process_may_have_an_outbox_open(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    with pytest.raises(OutboxError, match="another process has it open"):
        open_outbox(tmp_path)
    outbox.close()
    open_outbox(tmp_path).close()


def test_an_outbox_belongs_to_one_gateway(tmp_path: Path) -> None:
    open_outbox(tmp_path).close()
    with pytest.raises(OutboxError, match="belongs to the gateway 'gw-1'"):
        Outbox(tmp_path, gateway="other", transports=[MAIN])


def test_batches_of_many_threads_share_transactions_and_each_is_told_when_it_is_on_disk(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)

    def emit(number: int) -> None:
        for value in range(20):
            outbox.accept(Batch(f"app-{number}", [Offer(route(f"s.a.{number}"), [blob_free_tail(value)])]))

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = publish_all(outbox)
    for number in range(8):
        assert values([held.body for held in sent if held.topic == f"s.a.{number}"]) == [float(value) for value in range(20)]
    outbox.close()


def blob_free_tail(value: float) -> bytes:
    from tests.gateway_agent.outbox.kit import tail

    return tail(float(value))


def test_a_frame_sent_twice_is_the_same_frame(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([float(value) for value in range(2500)]))
    once = [held.body for held in outbox.hand_out(MAIN, after=-1)]
    outbox.close()
    again = open_outbox(tmp_path)
    again.accept(batch([1.0]))
    twice = [held.body for held in again.hand_out(MAIN, after=-1)]
    assert twice[: len(once)] == once
    again.close()


def test_dropped_records_name_the_oldest_and_the_newest_that_were_given_up(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, max_bytes=2_000)
    for value in range(40):
        outbox.accept(batch([float(value)], route("s.a.old", when_full="drop_oldest")))
    for value in range(10):
        outbox.accept(batch([float(value)], route("s.a.new", when_full="drop_newest")))
    records = [decode_control(held.body) for held in publish_all(outbox) if is_control(held.body)]
    dropped = [record for record in records if isinstance(record, Dropped)]
    assert len(dropped) == 2, "neighbours are joined"
    assert dropped[0].first == 0
    assert dropped[1].last == 9
    assert {record.reason for record in dropped} == {"outbox-full"}
    outbox.close()


def test_the_oldest_of_a_topic_that_its_publisher_leaves_out_can_be_dropped(tmp_path: Path) -> None:
    """Guarantee: a topic that its broker does not take for days does not fill the outbox for those that may drop their oldest."""
    outbox = open_outbox(tmp_path, max_bytes=4_000)
    stuck, other = route("s.a.stuck", when_full="drop_oldest"), route("s.a.other", when_full="drop_oldest")
    outbox.accept(batch([0.0], stuck))
    (start, first) = outbox.hand_out(MAIN, after=-1)
    after, left_out = first.id, frozenset({first.stream})
    for value in range(1, 60):
        outbox.accept(batch([float(value)], stuck))
        outbox.accept(batch([float(value)], other))
        found = outbox.pick(MAIN, Choice(after, without=left_out))
        assert {held.topic for held in found.frames} <= {"s.a.other"}
        outbox.let_go(found.frames, wait=True)
        after = found.seen
    counts = {one.topic: one for one in outbox.status().topics}
    assert counts["s.a.other"].published == 59
    assert counts["s.a.stuck"].dropped > 0
    again = outbox.pick(MAIN, Choice(-1, only=first.stream, up_to=after)).frames
    # What its publisher had in hand is what it was.
    assert again[:2] == [start, first]
    outbox.close()


def test_a_frame_can_be_read_by_anyone(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, clock=lambda: 1_700_000_000_000_000)
    outbox.accept(batch([4.5]))
    frame = next(held for held in publish_all(outbox) if held.count)
    (event,) = decode_frame(frame.body, Schemas.with_shipped()).events
    assert (event["gateway"], event["epoch"], event["seq"], event["value"]) == (GATEWAY, outbox.epoch, 0, 4.5)
    assert event["gateway_time"].isoformat() == "2023-11-14T22:13:20+00:00"
    outbox.close()
