"""Partial aggregates: rows to partials, partials to partials, partials to result rows. Columns only, no Beam.

A partial has one row per device and channel: ``count``, the limbs of the sum (`transforms.exact`), ``min``, ``max``.
Merging is exact in any order and grouping.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import polars as pl

from schemas.header import HEADER_NAMES
from transforms import exact
from transforms.columns import is_aggregated
from transforms.windows import WindowSpec

SERIES: Final = ("device", "channel")
ROW_TYPES: Final[dict[str, pl.DataType]] = {
    "window_start": pl.Int64(),
    "window_end": pl.Int64(),
    "device": pl.String(),
    "channel": pl.String(),
    "count": pl.Int64(),
    "sum": pl.Float64(),
    "mean": pl.Float64(),
    "min": pl.Float64(),
    "max": pl.Float64(),
    "pane": pl.String(),
    "updated_at": pl.Int64(),
}
ON_TIME: Final = "on_time"
LATE: Final = "late"

_MERGES: Final = (
    pl.col("count").sum(),
    pl.col("high").sum(),
    pl.col("middle").sum(),
    pl.col("low").sum(),
    pl.col("min").min(),
    pl.col("max").max(),
    pl.col("rest"),
)


def measurements(events: pl.DataFrame) -> pl.DataFrame:
    """Columns event_time, device, channel, value: the numbers of decoded events, under the names they aggregate by.

    One numeric or on-off measurement goes by the channel's name, and what is null or not a number is left out. Where
    there are several, or none, they go by ``channel.field``, and the channel's name stands for the events themselves, with
    no value: they are counted.
    """
    names = [name for name, dtype in events.schema.items() if name not in HEADER_NAMES and is_aggregated(dtype)]
    parts = [_measurement(events, name, alone=len(names) == 1) for name in names]
    if len(parts) == 1:
        return parts[0]
    return pl.concat([events.select("event_time", *SERIES, pl.lit(None, pl.Float64).alias("value")), *parts])


def _measurement(events: pl.DataFrame, name: str, *, alone: bool) -> pl.DataFrame:
    channel = pl.col("channel") if alone else (pl.col("channel") + f".{name}").alias("channel")
    value = events.get_column(name)
    part = events.select("event_time", "device", channel, pl.col(name).cast(pl.Float64).alias("value"))
    if value.null_count() or (value.dtype.is_float() and value.is_nan().any()):
        return part.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    return part


def slices(values: pl.DataFrame, width: int) -> pl.DataFrame:
    """Partials of `measurements`, per slice of ``width`` µs: columns slice, device, channel, and a partial's."""
    high, middle, low, odd = exact.split(values.get_column("value").fill_null(0.0).to_numpy())
    columns: list[pl.Expr | str] = [pl.col("event_time").floordiv(width).mul(width).alias("slice"), "device", "channel", "value"]
    table = values.select(*columns).with_columns(pl.Series("high", high), pl.Series("middle", middle))
    table = table.with_columns(pl.lit(0, pl.Int64).alias("low") if low is None else pl.Series("low", low))
    rest: pl.Expr = pl.lit(None, pl.List(pl.Float64)).alias("rest")
    if odd is not None:
        table = table.with_columns(pl.Series("odd", odd))
        rest = pl.col("value").filter(pl.col("odd")).alias("rest")
    aggregated = table.group_by("slice", *SERIES).agg(
        pl.len().cast(pl.Int64).alias("count"),
        pl.col("high").sum(),
        pl.col("middle").sum(),
        pl.col("low").sum(),
        pl.col("value").min().alias("min"),
        pl.col("value").max().alias("max"),
        *([rest] if odd is not None else []),
    )
    return aggregated if odd is not None else aggregated.with_columns(rest)


def coarser(partials: pl.DataFrame, width: int) -> pl.DataFrame:
    """`slices` of ``width`` µs out of narrower ones that divide it."""
    moved = partials.with_columns(pl.col("slice").floordiv(width).mul(width))
    return _merged(moved, ["slice", *SERIES])


def by_window(partials: pl.DataFrame, window: WindowSpec) -> Iterable[tuple[int, pl.DataFrame]]:
    """Window starts, each with the partial that ``partials``, slices of the window's own width, give it."""
    bounds = partials.get_column("slice").unique().to_list()
    for start in sorted({start for place in bounds for start in window.starts(place)}):
        inside = partials if len(bounds) == 1 else partials.filter(pl.col("slice").is_between(start, start + window.size, "left"))
        yield start, merge([inside.drop("slice")]) if len(bounds) > 1 and window.slice < window.size else inside.drop("slice")


def merge(partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One partial out of several."""
    return _merged(pl.concat(partials) if len(partials) > 1 else partials[0], list(SERIES))


def _merged(table: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    plain = table.get_column("rest").null_count() == len(table)
    merged = table.group_by(keys).agg(*(_MERGES[:-1] if plain else _MERGES))
    if plain:
        merged = merged.with_columns(pl.lit(None, pl.List(pl.Float64)).alias("rest"))
    else:
        # Lists of lists, many of them null: rare enough for Python.
        found = [[value for rest in lists for value in rest or ()] for lists in merged.get_column("rest").to_list()]
        rests = [exact.reduce_rest(rest) or None for rest in found]
        merged = merged.with_columns(pl.Series("rest", rests, pl.List(pl.Float64)))
    # Carried over, limbs can be summed again as often as wanted.
    limbs = exact.normalise(*(merged.get_column(name).to_numpy() for name in ("high", "middle", "low")))
    return merged.with_columns(*(pl.Series(name, limb) for name, limb in zip(("high", "middle", "low"), limbs, strict=True)))


def rows(partial: pl.DataFrame, window: WindowSpec, start: int, *, pane: str, updated_at: int) -> pl.DataFrame:
    """Result rows (`ROW_TYPES`) of a merged partial, by device and channel. Times in µs since 1970, UTC."""
    partial = partial.sort(SERIES)
    limbs = [partial.get_column(name).to_numpy() for name in ("high", "middle", "low")]
    sums = exact.total(*exact.normalise(*limbs))
    rests = partial.get_column("rest")
    # An empty list is what a series without a rest has beside one that has.
    for place in np.flatnonzero((rests.list.len().fill_null(0) > 0).to_numpy()).tolist():
        high, middle, low = (int(limb[place]) for limb in limbs)
        sums[place] = exact.total_with_rest(high, middle, low, rests[place])
    # Where nothing but events was counted there is no least value, and no sum either.
    total = pl.when(pl.col("min").is_null()).then(None).otherwise(pl.Series("sum", sums)).alias("sum")
    return partial.select(
        pl.lit(start, pl.Int64).alias("window_start"),
        pl.lit(start + window.size, pl.Int64).alias("window_end"),
        *SERIES,
        "count",
        total,
        (total / pl.col("count")).alias("mean"),
        "min",
        "max",
        pl.lit(pane).alias("pane"),
        pl.lit(updated_at, pl.Int64).alias("updated_at"),
    )


def pack(partial: pl.DataFrame) -> bytes:
    """A partial as an Arrow IPC stream."""
    out = io.BytesIO()
    partial.write_ipc_stream(out, compression="uncompressed")
    return out.getvalue()


def unpack(data: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(data)
