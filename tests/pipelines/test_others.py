"""Aggregates without a column of their own in the stores."""

from __future__ import annotations

import json

import polars as pl

from pipelines.others import with_others
from storage.tables import AGGREGATES
from tests.storage.rows import aggregates


def test_they_go_into_one_column_as_json() -> None:
    rows = aggregates(3).with_columns(
        p95=pl.lit(2.0), p7=pl.Series([1.5, None, float("inf")]), energy=pl.Series([3.0, 4.0, None])
    )
    found = AGGREGATES.conform(with_others(rows, "aggregates"))
    assert found.get_column("p95").to_list() == [2.0] * 3
    texts = found.get_column("others").to_list()
    assert [json.loads(text) if text else None for text in texts] == [{"p7": 1.5, "energy": 3.0}, {"energy": 4.0}, None]


def test_rows_that_a_table_knows_stay_as_they_are() -> None:
    rows = aggregates(2)
    assert with_others(rows, "aggregates") is rows
    strange = rows.with_columns(pl.lit(1.0).alias("strange"))
    assert with_others(strange, "latest") is strange
