"""Windows computed again from the log are the windows that plain Python computes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import polars as pl

from brokers import connect
from pipelines.corrections import Corrector, Recomputation
from pipelines.session import Session
from pipelines.sources.discovery import Source
from pipelines.state import JobState
from schemas.registry import Schemas
from tests.pipelines.fleet import START as BEGIN
from tests.pipelines.fleet import TOPICS, fleet, micros
from transforms.admission import Note
from transforms.windowing import Correction
from transforms.windows import WindowSpec

SECOND = 1_000_000
WINDOWS = (WindowSpec("short", 10 * SECOND, 10 * SECOND), WindowSpec("long", 30 * SECOND, 10 * SECOND))


def test_listed_windows_are_written_whole_and_the_list_is_worked_off(tmp_path: Path) -> None:
    sent = fleet(11, seconds=200)
    url = f"local:{tmp_path}/log?partitions=2"
    connect(url).publisher().publish(sent.messages)
    state, session, written = JobState(tmp_path / "state"), Session(), list[pl.DataFrame]()
    start = micros(BEGIN)
    wanted = [Correction("short", start + 50 * SECOND), Correction("long", start + 60 * SECOND), Correction("gone", start)]
    state.store([], wanted, None)
    recomputation = Recomputation((Source(url, TOPICS),), tuple(Schemas.with_shipped()), WINDOWS)
    corrector = Corrector(state, recomputation, session, lambda tables: written.extend(tables.values()))
    corrector.close()
    assert state.corrections() == []
    expected = {
        key: values
        for key, values in sent.windows(((10, 10), (30, 10))).items()
        if key[:2] in {(start + 50 * SECOND, start + 60 * SECOND), (start + 60 * SECOND, start + 90 * SECOND)}
    }
    found = {
        (row["window_start"], row["window_end"], row["device"], row["channel"]): tuple(
            row[name] for name in ("count", "sum", "mean", "min", "max")
        )
        for row in pl.concat(written).to_dicts()
    }
    assert found == expected
    assert len(expected) > 20
    session.close()
    state.close()


def test_a_listed_period_of_sessions_is_written_whole(tmp_path: Path) -> None:
    sent = fleet(12, seconds=200)
    url = f"local:{tmp_path}/log?partitions=2"
    connect(url).publisher().publish(sent.messages)
    state, session, written = JobState(tmp_path / "state"), Session(), list[tuple[str, pl.DataFrame]]()
    period = micros(BEGIN) + 60 * SECOND
    state.store([], [Correction("visits", period)], None)
    visits = WindowSpec("visits", 60 * SECOND, 60 * SECOND, gap=2 * SECOND)
    recomputation = Recomputation((Source(url, TOPICS),), tuple(Schemas.with_shipped()), (*WINDOWS, visits))
    Corrector(state, recomputation, session, lambda tables: written.extend(tables.items())).close()
    ((table, rows),) = written
    assert table == "sessions"
    assert rows.get_column("period_start").unique().to_list() == [period]
    inside = [event for event in sent.counted if period <= micros(event["event_time"]) < period + 60 * SECOND]
    assert rows.get_column("count").sum() == len(inside)
    assert len(rows) > rows.select("device", "channel").n_unique()
    session.close()
    state.close()


def test_a_window_whose_beginning_has_expired_keeps_its_row(tmp_path: Path) -> None:
    """Guarantee: a row of all events is never replaced by one of those that the log still holds."""
    sent = fleet(13, seconds=200)
    url = f"local:{tmp_path}/log"
    connect(url).publisher().publish(sent.messages[: len(sent.messages) // 2])
    state, session, written = JobState(tmp_path / "state"), Session(), list[pl.DataFrame]()
    start = micros(BEGIN)
    with session.reader(url, TOPICS[0], 0) as reader:
        middle = reader.end_offset(TOPICS[0], 0)
    with closing(connect(f"{url}?retention_bytes=1").publisher()) as publisher:
        publisher.publish(sent.messages[len(sent.messages) // 2 :])
    state.store([note(TOPICS[0], 1, start - SECOND), note(TOPICS[0], middle, start + 150 * SECOND)], [], None)
    state.store([], [Correction("short", start + 50 * SECOND)], None)
    recomputation = Recomputation((Source(url, TOPICS),), tuple(Schemas.with_shipped()), WINDOWS)
    Corrector(state, recomputation, session, lambda tables: written.extend(tables.values())).close()
    assert written == []
    assert state.corrections() == []
    assert session.counts.job()["uncorrectable_windows"] == 1
    assert session.counts.job()["corrected_windows"] == 0
    session.close()
    state.close()


def note(topic: str, next_offset: int, mark: int) -> Note:
    """What a job notes of a partition: up to ``next_offset`` no event is newer than ``mark``."""
    return Note(topic, 0, 0, next_offset, mark, mark, mark, 0, *[0] * 9, snapshot=b"{}")
