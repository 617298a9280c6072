"""What the outbox makes of a torn end and of damaged rows."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway_agent.outbox import Batch
from tests.gateway_agent.kit import Account
from tests.gateway_agent.outbox.kit import batch, open_outbox, publish_all, values


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
