"""Watermarks of a source: newest less the disorder, at the clock's pace when quiet, never led by a wrong clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipelines.sources.clock import BEFORE_ALL, PartitionClocks, newest_event_time
from schemas.control import EpochStart, encode_control
from schemas.frame import encode_frame
from tests.transforms.frames import EPOCH, READING

A, B = ("a", 0), ("b", 0)


class Ticks:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def clocks() -> tuple[PartitionClocks, Ticks]:
    ticks = Ticks()
    return PartitionClocks(ticks), ticks


def test_while_there_is_something_to_read_it_is_the_newest_less_the_disorder() -> None:
    found, ticks = clocks()
    found.add(A, watermark=BEFORE_ALL, has_records=True)
    assert found.read(A, 100, disorder=10) == 90
    ticks.now += 1000
    assert found.read(A, 95, disorder=10) == 90
    assert found.read(A, None, disorder=10) == 90
    assert found.read(A, 200, disorder=10) == 190


def test_a_quiet_partition_moves_at_the_pace_of_the_clock() -> None:
    found, ticks = clocks()
    found.add(A, watermark=BEFORE_ALL, has_records=True)
    found.read(A, 100, disorder=10)
    assert found.quiet(A, disorder=10) == 90
    ticks.now += 50
    assert found.quiet(A, disorder=10) == 140
    # What comes then does not take it back, and it waits again.
    assert found.read(A, 120, disorder=10) == 140
    ticks.now += 50
    assert found.read(A, 130, disorder=10) == 140


def test_a_partition_falls_quiet_once_when_it_has_been_at_its_end_for_longer_than_the_disorder() -> None:
    found, ticks = clocks()
    found.add(A, watermark=BEFORE_ALL, has_records=False)
    found.quiet(A, disorder=10)
    ticks.now += 10
    assert not found.falls_quiet(A, disorder=10), "it never had anything"
    for _ in range(2):
        found.read(A, 100, disorder=10)
        assert not found.falls_quiet(A, disorder=10)
        found.quiet(A, disorder=10)
        ticks.now += 9
        assert not found.falls_quiet(A, disorder=10)
        ticks.now += 1
        assert [found.falls_quiet(A, disorder=10) for _ in range(3)] == [True, False, False]


def test_a_partition_without_events_follows_the_others_and_holds_up_none() -> None:
    found, _ = clocks()
    found.add(A, watermark=BEFORE_ALL, has_records=True)
    found.add(B, watermark=BEFORE_ALL, has_records=False)
    assert found.least() == BEFORE_ALL
    found.read(A, 100, disorder=10)
    assert found.quiet(B, disorder=10) == 90
    assert found.least() == 90
    found.read(A, 200, disorder=10)
    assert found.begin(B) == 190
    found.read(B, 150, disorder=10)
    assert found.least() == 190


def test_a_partition_that_has_records_holds_up_the_others_until_it_is_read() -> None:
    found, _ = clocks()
    found.add(A, watermark=5, has_records=True)
    found.add(B, watermark=5, has_records=True)
    found.read(A, 100, disorder=10)
    assert found.least() == 5
    found.read(B, 50, disorder=10)
    assert found.least() == 40
    found.finish(B)
    assert found.least() == 90


def test_without_any_event_there_is_no_time() -> None:
    found, ticks = clocks()
    found.add(A, watermark=BEFORE_ALL, has_records=False)
    ticks.now += 1_000_000
    assert found.quiet(A, disorder=10) == BEFORE_ALL
    assert found.least() == BEFORE_ALL


def frame(time: datetime) -> bytes:
    event = {"gateway": "g", "epoch": 1, "seq": 0, "gateway_time": EPOCH, "device": "d", "channel": "c", "value": 1.0}
    return encode_frame(READING, [{**event, "event_time": time}])


def test_an_event_of_2099_does_not_move_the_time_on() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    limit = (now - EPOCH) // timedelta(microseconds=1)
    frames = [
        frame(now - timedelta(hours=1)),
        frame(datetime(2099, 1, 1, tzinfo=UTC)),
        b"damaged",
        encode_control(EpochStart("g", 1, None, None)),
    ]
    assert newest_event_time(frames, limit=limit) == limit - 3_600_000_000
    assert newest_event_time(frames[1:], limit=limit) is None


def test_how_long_nothing_has_come() -> None:
    found, ticks = clocks()
    assert found.quiet_for() == 0
    found.add(A, watermark=BEFORE_ALL, has_records=True)
    found.add(B, watermark=BEFORE_ALL, has_records=True)
    found.quiet(A, disorder=10)
    ticks.now += 100
    assert (found.quiet_for(A), found.quiet_for(B), found.quiet_for()) == (100, 0, 0)
    found.quiet(B, disorder=10)
    ticks.now += 5
    assert (found.quiet_for(A), found.quiet_for(B), found.quiet_for()) == (105, 5, 5)
    found.read(A, 100, disorder=10)
    assert (found.quiet_for(A), found.quiet_for()) == (0, 0)
    found.finish(A)
    assert found.quiet_for() == 5


def test_nothing_follows_from_the_others_until_every_source_was_looked_at() -> None:
    """Guarantee: where a broker is away when a job starts, windows wait for what it has."""
    found, _ = clocks()
    found.expect(["here", "away"])
    found.add(A, watermark=5, has_records=True)
    found.read(A, 100, disorder=0)
    found.met("here")
    assert found.least() == BEFORE_ALL
    found.add(B, watermark=5, has_records=False)
    assert found.quiet(B, disorder=0) == 5
    found.met("away")
    assert found.least() == 100
    assert found.quiet(B, disorder=0) == 100
