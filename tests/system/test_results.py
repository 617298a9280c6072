"""What the demonstration takes for equal rows, and what not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from examples.demo.databases import opened
from examples.demo.results import different
from storage import open_sink
from tests.storage.rows import aggregates


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (aggregates(3, pane="late").with_columns(pl.col("updated_at") + 1), 0),
        (aggregates(3).with_columns(pl.col("sum") * (1 + 2**-52)), 3),
        (aggregates(2), 1),
        (aggregates(3).with_columns(pl.col("window_end") + 1), 6),
    ],
)
def test_rows_differ_in_what_follows_from_events(tmp_path: Path, other: pl.DataFrame, expected: int) -> None:
    urls = [f"sqlite:{tmp_path}/{name}.sqlite" for name in ("one", "other")]
    for url, rows in zip(urls, (aggregates(3), other), strict=True):
        with closing(open_sink(url)) as sink:
            sink.write("aggregates", rows)
    with opened(urls[0], {}) as one, opened(urls[1], {}) as two:
        assert different(one, two) == different(two, one) == expected


def test_a_database_that_is_not_there_yet_has_no_rows(tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/none.sqlite", {}) as database:
        assert database.rows("commands", "id") == []
