"""Times as SQLite keeps them, and PostgreSQL takes them: ISO 8601 text in UTC.

Always with six decimals, so that text sorts as time does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from storage.tables import Table

_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def as_texts(spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``spec`` with their times as text."""
    return rows.with_columns(texts(rows.get_column(column.name)) for column in spec.columns if column.kind == "time")


def texts(times: pl.Series) -> pl.Series:
    """µs since 1970, UTC, as text such as ``2010-05-09T00:00:00.000000Z``."""
    if len(times) > 1 and times.n_unique() * 4 < len(times):
        # Formatting costs more than looking up, and the rows of a window share their times.
        distinct = times.unique()
        return times.replace_strict(distinct, texts(distinct), return_dtype=pl.String())
    return pl.select(pl.from_epoch(times, time_unit="us").dt.strftime(_FORMAT)).to_series().alias(times.name)


def micros(text: str) -> int:
    """The inverse of `texts`, for one."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
