"""Writing rows of a bundle: in bounded pieces, and to every sink that can be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from pipelines.session import close_session, open_session
from pipelines.sinks import WriteRows, close_sinks, with_sink, write_rows
from storage import StoreError, StoreUnavailable
from tests.storage.rows import aggregates, gaps, latest, select

JOB = "job"
MOST = 100


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("pipelines.sinks.MOST_ROWS", MOST)
    open_session(JOB, credit=1)
    yield tmp_path / "results.sqlite"
    close_sinks([f"sqlite:{tmp_path}/results.sqlite"])
    close_session(JOB)


def count(path: Path, table: str = "aggregates") -> int:
    return int(select(path, f"SELECT count(*) FROM {table}")[0][0])


def test_a_bundle_of_very_many_rows_is_written_in_pieces(results: Path) -> None:
    write = WriteRows(JOB, "aggregates", [f"sqlite:{results}"])
    write.start_bundle()
    half = MOST // 2
    for number in range(3):
        assert list(write.process(aggregates(half, first=number * half))) == []
    assert count(results) == 2 * half
    write.finish_bundle()
    assert count(results) == 3 * half


def test_pieces_come_to_what_one_write_comes_to(results: Path) -> None:
    write = WriteRows(JOB, "latest", [f"sqlite:{results}"])
    write.start_bundle()
    filler = pl.concat([latest("filler", 0, 0.0)] * (MOST - 1))
    for rows in (latest("a", 2, 2.0), filler, latest("a", 3, 3.0), latest("a", 1, 1.0)):
        list(write.process(rows))
    write.finish_bundle()
    assert select(results, "SELECT device, value FROM latest") == [("a", 3.0), ("filler", 0.0)]


def test_one_frame_of_very_many_rows_is_cut_in_order(results: Path) -> None:
    closed = [(number, number, "closed") for number in range(MOST)]
    write_rows([with_sink(f"sqlite:{results}")], {"gaps": gaps((0, 9, "open"), *closed[:5], *closed[10:], (3, 4, "open"))})
    found = select(results, 'SELECT "first", "last" FROM gaps WHERE state = \'open\' ORDER BY 1')
    assert found == [(3, 4), (5, 9)]


@pytest.mark.parametrize("away_is_first", [True, False])
def test_a_sink_that_is_away_keeps_rows_from_no_other(results: Path, tmp_path: Path, *, away_is_first: bool) -> None:
    (tmp_path / "file").touch()
    away = f"sqlite:{tmp_path}/file/results.sqlite"
    urls = [away, f"sqlite:{results}"] if away_is_first else [f"sqlite:{results}", away]
    write = WriteRows(JOB, "aggregates", urls)
    write.start_bundle()
    list(write.process(aggregates(3)))
    with pytest.raises(StoreUnavailable, match="file"):
        write.finish_bundle()
    assert count(results) == 3
    with pytest.raises(StoreError) as caught:
        write_rows(map(with_sink, [away, f"{away}.other"]), {"aggregates": aggregates(1)})
    assert "other" in caught.value.__notes__[0]
