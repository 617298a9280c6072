"""Aggregates that have no column of their own in a store: they go into the column ``others``, as a JSON object."""

from __future__ import annotations

import json
import math

import polars as pl

from storage.tables import table_named


def with_others(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """``rows`` as ``table`` takes them. What is null or not finite is left out; where nothing remains there is no object."""
    known = table_named(table).names
    more = [name for name in rows.columns if name not in known]
    if not more or "others" not in known:
        return rows
    objects = [
        {name: value for name, value in row.items() if value is not None and math.isfinite(value)}
        for row in rows.select(more).iter_rows(named=True)
    ]
    texts = [json.dumps(found) if found else None for found in objects]
    return rows.drop(more).with_columns(pl.Series("others", texts, pl.String))
