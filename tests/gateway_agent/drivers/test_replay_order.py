"""The replay driver's order, pace and memory: any file, in the order of time, from any point of it on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.drivers.replay import merge as merging
from gateway_agent.drivers.replay.lines import read_lines
from gateway_agent.drivers.replay.rows import Row
from gateway_agent.drivers.replay.segments import find_segments
from tests.examples import examples
from tests.gateway_agent.drivers.context import KeepingContext, Killed
from tests.gateway_agent.drivers.kit import make

SETTINGS = """
file = "{file}"
speed = {speed}
device = "{{d}}"
time = {{ column = "t", format = "seconds" }}
channels = {{ v = {{ value = "v" }} }}
"""


def write(file: Path, times: Sequence[float]) -> None:
    """Row N has the value N, so that what comes tells where it stood."""
    file.write_text("t,d,v\n" + "".join(f"{time},a,{number}\n" for number, time in enumerate(times)))


def order(context: KeepingContext) -> list[int]:
    return [int(fields["value"]) for *_, fields in context.emitted]


def run(file: Path, context: KeepingContext, *, speed: float = 0) -> KeepingContext:
    make("replay", SETTINGS.format(file=file, speed=speed)).run(context)
    return context


@given(
    times=st.lists(st.integers(0, 50), max_size=200),
    after=st.none() | st.tuples(st.integers(0, 50), st.integers(-1, 200)),
    block_rows=st.integers(1, 40),
)
def test_segments_merged_are_the_rows_sorted(times: list[int], after: tuple[int, int] | None, block_rows: int) -> None:
    """Whatever the order of the file: stable by place, nothing lost or twice, and nothing up to the place to go on from."""
    rows = [Row(offset, offset + 1, 1, time) for offset, time in enumerate(times)]
    segments = list(find_segments(rows, lambda row: row.cells, end=len(rows), after=after, block_rows=block_rows))

    def read(segment):  # type: ignore[no-untyped-def]
        return ((row.cells, row) for row in rows[segment.start : segment.end] if after is None or (row.cells, row.offset) > after)

    found = [(time, row.offset) for time, row in merging.merge(segments, read)]
    places = sorted((time, offset) for offset, time in enumerate(times))
    assert found == [place for place in places if after is None or place > after]
    assert all(segment.rows <= block_rows for segment in segments if not segment.in_order)
    for segment, following in pairwise(segments):
        assert segment.end <= following.start
        assert segment.rows + following.rows > block_rows


def test_segments_are_opened_only_when_their_time_comes() -> None:
    """A file of a thousand stretches, one after another in time, takes the memory of one."""
    rows = [Row(offset, offset + 1, 1, offset if offset % 3 else offset - 2) for offset in range(3_000)]
    segments = list(find_segments(rows, lambda row: row.cells, end=3_000, block_rows=3))
    opened = [0]
    most = 0

    def read(segment):  # type: ignore[no-untyped-def]
        nonlocal most
        opened[0] += 1
        most = max(most, opened[0])
        yield from ((row.cells, row) for row in rows[segment.start : segment.end])
        opened[0] -= 1

    assert sum(1 for _ in merging.merge(segments, read)) == 3_000
    assert len(segments) > 500
    assert most <= 3


def test_a_shuffled_file_is_refused_rather_than_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MAX_HELD_ROWS", 5_000)
    times = list(range(20_000))
    random.Random(1).shuffle(times)
    write(tmp_path / "r.csv", [float(time) for time in times])
    with pytest.raises(merging.TooDisordered, match="sort the file by time"):
        run(tmp_path / "r.csv", KeepingContext())


def test_a_file_with_local_disorder_needs_no_more_than_its_neighbourhood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MAX_HELD_ROWS", 5_000)
    generator = random.Random(1)
    times = [number + generator.uniform(0, 20) for number in range(30_000)]
    write(tmp_path / "r.csv", times)
    assert order(run(tmp_path / "r.csv", KeepingContext())) == sorted(range(len(times)), key=lambda number: times[number])


@given(data=st.binary(max_size=400), chunk=st.integers(1, 50))
def test_lines_are_the_same_however_the_file_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int) -> None:
    import os

    file = tmp_path_factory.getbasetemp() / "lines"
    file.write_bytes(data)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        found = list(read_lines(descriptor, 0, len(data), chunk=chunk))
    finally:
        os.close(descriptor)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert [line for _, line in found] == [line.removesuffix(b"\r") for line in lines]
    assert all(data[offset : offset + len(line)] == line for offset, line in found)


@given(data=st.data())
@examples(40)
def test_a_replay_killed_anywhere_goes_on_where_its_accepted_events_end(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Nothing lost, nothing twice, order kept, however often and wherever it is killed."""
    times = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=60))
    file = tmp_path_factory.getbasetemp() / "killed.csv"
    write(file, [float(time) for time in times])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_agent.drivers.replay.playback.BATCH", data.draw(st.integers(1, 20)))
        stored: dict[str, object] = {}
        found: list[int] = []
        for _ in range(200):
            context = KeepingContext(stored=stored, killed_after=data.draw(st.integers(0, 3)))
            try:
                run(file, context)
                done = True
            except Killed:
                done = False
            found += order(context)
            stored = context.stored
            if done:
                break
        else:
            found += order(run(file, KeepingContext(stored=stored)))
    assert found == sorted(range(len(times)), key=lambda number: (times[number], number))


def test_a_replay_that_has_ended_stays_ended(tmp_path: Path) -> None:
    write(tmp_path / "r.csv", [1, 2, 3])
    first = run(tmp_path / "r.csv", KeepingContext())
    assert run(tmp_path / "r.csv", KeepingContext(stored=first.stored)).emitted == []


def test_rows_appended_to_an_ended_recording_are_all_that_comes_next(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    write(file, [1, 2, 3])
    first = run(file, KeepingContext())
    with file.open("a") as out:
        out.write("4,a,3\nx,a,4\n")
    second = run(file, KeepingContext(stored=first.stored))
    assert order(second) == [3]
    assert len(second.rejected) == 1


def test_another_recording_under_the_same_name_is_replayed_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    write(file, [1, 2, 3])
    first = run(file, KeepingContext())
    write(file, [0.5, 1, 2, 3])
    assert order(run(file, KeepingContext(stored=first.stored))) == [0, 1, 2, 3]


def test_rows_without_a_time_are_reported_once_not_at_every_start(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("t,d,v\n1,a,0\nx,a,1\n2,a,2\n")
    first = run(file, KeepingContext())
    assert len(first.rejected) == 1
    assert run(file, KeepingContext(stored=first.stored)).rejected == []


class Clock:
    """Time that passes when slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("gateway_agent.drivers.replay.playback.time.monotonic", lambda: self.now)


class Timekeeper(KeepingContext):
    """Notes when events became durable."""

    def __init__(self, clock: Clock, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.clock = clock
        self.at: list[float] = []

    def sleep(self, seconds: float) -> bool:
        assert seconds > 0
        self.clock.now += seconds
        return True

    def emit_many(self, events):  # type: ignore[no-untyped-def]
        events = list(events)
        super().emit_many(events)
        self.at += [self.clock.now] * len(events)


@pytest.mark.parametrize("speed", [0.5, 1, 10, 3600])
def test_the_pace_is_the_recorded_one_times_the_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: float) -> None:
    """No event before it is due, none later than the pause between batches."""
    times = [0, 1, 1, 5, 60, 3600, 3601]
    write(tmp_path / "r.csv", times)
    clock = Clock(monkeypatch)
    context = Timekeeper(clock)
    run(tmp_path / "r.csv", context, speed=speed)
    assert len(context.at) == len(times)
    for at, time in zip(context.at, times, strict=True):
        assert -1e-6 <= at - 1_000 - time / speed <= 0.051


def test_after_a_restart_the_pace_goes_on_from_the_last_accepted_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "r.csv", [0, 100, 110])
    clock = Clock(monkeypatch)
    context = Timekeeper(clock, killed_after=2)
    with pytest.raises(Killed):
        run(tmp_path / "r.csv", context, speed=1)
    assert order(context) == [0, 1]
    clock.now = 50_000.0
    resumed = Timekeeper(clock, stored=context.stored)
    run(tmp_path / "r.csv", resumed, speed=1)
    assert order(resumed) == [2]
    assert resumed.at[0] == pytest.approx(50_010.0, abs=0.06)


def test_a_replay_that_is_asked_to_stop_commits_what_is_due_and_returns(tmp_path: Path) -> None:
    write(tmp_path / "r.csv", [0, 0, 3600])

    class Stopping(KeepingContext):
        def sleep(self, seconds: float) -> bool:
            self.stop()
            return False

    context = Stopping()
    run(tmp_path / "r.csv", context, speed=1)
    assert order(context) == [0, 1]
    assert order(run(tmp_path / "r.csv", KeepingContext(stored=context.stored))) == [2]
