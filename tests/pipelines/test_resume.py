"""Where a job starts again: nothing that was under way is missed, nothing that was done is done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.resume import Resume, resume
from pipelines.state import JobState
from transforms.admit import BEFORE_ALL, Note
from transforms.progress import Mark, done, floor_of, granule_of, restart
from transforms.windowing import Correction
from transforms.windows import WindowSpec

WINDOWS = (WindowSpec("short", 10, 10, 100), WindowSpec("long", 30, 10, 100))


def note(offset: int, mark: int, watermark: int, *, snapshot: bytes | None = b"state", topic: str = "t") -> Note:
    return Note(topic, 0, offset - 1, offset, mark, watermark, mark, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, snapshot)


@pytest.fixture
def state(tmp_path: Path) -> Any:
    found = JobState(tmp_path / "state")
    yield found
    found.close()


def test_a_job_that_never_ran_begins_at_the_beginning(state: JobState) -> None:
    assert resume(None, WINDOWS) == Resume()
    state.store([note(5, 10, 0)], [], None)
    assert resume(state, WINDOWS) == Resume()


def test_it_reads_again_from_where_every_event_is_older_than_the_floor(state: JobState) -> None:
    marks = [(10, 40, 30), (20, 65, 55), (30, 80, 70), (40, 120, 110)]
    state.store([note(*mark, snapshot=b"at %d" % mark[0]) for mark in marks], [], 100)
    found = resume(state, WINDOWS)
    assert found.resumption.floor == 70
    assert found.starts == {("t", 0): 20}
    assert found.seeds == {("t", 0): b"at 20"}
    assert found.resumption.done == {("t", 0): 30}


def test_a_partition_whose_every_mark_is_young_is_read_from_its_beginning(state: JobState) -> None:
    state.store([note(10, 500, 490), note(4, 1, 0, topic="old")], [], 100)
    found = resume(state, WINDOWS)
    assert found.starts == {("old", 0): 4}


def test_the_stored_watermark_never_falls_and_survives(tmp_path: Path) -> None:
    first = JobState(tmp_path / "state")
    first.store([], [], 100)
    first.store([], [], 50)
    first.close()
    second = JobState(tmp_path / "state")
    assert second.watermark == 100
    second.close()


def test_a_correction_asked_for_again_while_it_was_worked_off_stays(state: JobState) -> None:
    state.store([], [Correction("short", 10), Correction("short", 20)], None)
    asked = state.corrections()
    assert [entry.correction.start for entry in asked] == [10, 20]
    state.store([], [Correction("short", 20)], None)
    state.settled(asked)
    assert [entry.correction.start for entry in state.corrections()] == [20]


def test_pruning_keeps_what_a_restart_and_a_correction_need(state: JobState) -> None:
    state.store([note(offset, offset * 10, offset * 10 - 5) for offset in range(1, 60)], [], 500)
    before = {floor: restart(state.marks()["t", 0], floor) for floor in range(300, 600, 7)}
    state.prune(restart_before=470, correct_before=300)
    kept = state.marks()["t", 0]
    assert len(kept) < 40
    assert {floor: restart(kept, floor) for floor in range(300, 600, 7)} == before
    assert state.snapshot(("t", 0), restart(kept, 470) or 0) is not None


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=30), st.integers(0, 80), st.integers(1, 40)
)
def test_no_event_from_the_floor_on_and_no_block_under_way_is_missed(steps: list[Any], watermark: int, span: int) -> None:
    """A model: blocks with their newest event time and the source's watermark when they left, marks after each."""
    marks: list[Mark] = []
    blocks: list[tuple[int, int, int]] = []
    highest, source = -1, -1
    for offset, (newest, step) in enumerate(steps):
        source += step
        highest = max(highest, newest, source)
        blocks.append((offset, newest, source))
        marks.append(Mark(offset + 1, highest, source))
    floor = watermark - span
    start = restart(marks[::2], floor) or 0
    finished = done(marks[::2], watermark) or 0
    for offset, newest, left in blocks:
        if newest >= floor or left >= watermark:
            assert offset >= start
        if left >= watermark:
            assert offset >= finished


def test_floor_and_steps_follow_from_the_windows() -> None:
    assert floor_of(1000, WINDOWS) == 970
    assert floor_of(1000, ()) == 1000
    assert granule_of((WindowSpec("day", 86_400_000_000, 86_400_000_000),)) == 21_600_000_000
    assert granule_of(()) == 1_000_000
    assert restart([Mark(5, BEFORE_ALL, BEFORE_ALL)], 0) == 5
