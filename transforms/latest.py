"""The newest value of every device and channel, in columns. One row per series and block goes on; the store keeps the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import apache_beam as beam
import polars as pl

from schemas.header import HEADER_NAMES
from transforms.admit import Admitted, wall_clock
from transforms.columns import is_aggregated
from transforms.jsontext import json_text

SERIES: Final = ("device", "channel")
#: Newer is greater, compared in this order.
ORDER: Final = ("event_time", "epoch", "seq")


def latest(events: pl.DataFrame, *, updated_at: int) -> pl.DataFrame:
    """Rows of the table ``latest``: the newest event of each series, by event time, then epoch and seq.

    One number or on-off state becomes ``value``, one text ``text``; several measurements become a JSON object in ``text``, in
    which bytes are told by their number, and what is no finite number is null. Times in µs since 1970, UTC.
    """
    # Few rows are left after the first step, so that only they are sorted.
    newest = events.filter(pl.col("event_time") == pl.col("event_time").max().over(SERIES))
    newest = newest.sort(ORDER).unique(SERIES, keep="last", maintain_order=True)
    measured = [name for name in newest.columns if name not in HEADER_NAMES]
    value, text = pl.lit(None, pl.Float64), pl.lit(None, pl.String)
    if len(measured) == 1 and is_aggregated(newest.schema[measured[0]]):
        value = pl.col(measured[0]).cast(pl.Float64)
    elif len(measured) == 1 and newest.schema[measured[0]] == pl.String:
        text = pl.col(measured[0])
    elif measured:
        rows = newest.select(measured).iter_rows(named=True)
        return _rows(
            newest.with_columns(pl.Series("_text", [_json(row) for row in rows], pl.String)), value, pl.col("_text"), updated_at
        )
    return _rows(newest, value, text, updated_at)


class Latest(beam.PTransform):
    """`Admitted` in, data frames of rows of the table ``latest`` out."""

    def __init__(self, *, clock: Callable[[], int] = wall_clock) -> None:
        super().__init__()
        self._clock = clock

    def expand(self, admitted: Any) -> Any:
        return admitted | "Newest" >> beam.ParDo(_Newest(self._clock))


class _Newest(beam.DoFn):
    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def process(self, element: Admitted) -> Iterator[pl.DataFrame]:
        if not element.columns.is_empty():
            yield latest(element.columns, updated_at=self._clock())


def _rows(newest: pl.DataFrame, value: pl.Expr, text: pl.Expr, updated_at: int) -> pl.DataFrame:
    return newest.select(
        *SERIES,
        "event_time",
        "gateway",
        "epoch",
        "seq",
        value.alias("value"),
        text.alias("text"),
        pl.lit(updated_at, pl.Int64).alias("updated_at"),
    )


def _json(row: dict[str, Any]) -> str:
    plain = {name: f"{len(value)} bytes" if isinstance(value, bytes) else value for name, value in row.items()}
    return json_text(plain, ensure_ascii=False)
