"""Partial aggregates: rows to partials, partials to partials, partials to result rows. Columns only, no Beam.

A partial has one row per device and channel: ``count``, the limbs of the sum (`transforms.exact`), ``min``, ``max``, and the
columns of the measures it is made with (`transforms.measures`). Merging is exact in any order and grouping.
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
from transforms.measures import Measure
from transforms.windows import WindowSpec

SERIES: Final = ("device", "channel")
#: Of result rows; those of a window that is asked for measures have a column for each besides.
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

_NO_REST: Final = pl.lit(None, pl.List(pl.Float64)).alias("rest")
_MERGES: Final = (
    pl.col("count").sum(),
    pl.col("high").sum(),
    pl.col("middle").sum(),
    pl.col("low").sum(),
    pl.col("min").min(),
    pl.col("max").max(),
    pl.col("rest"),
)


def row_types(window: WindowSpec) -> dict[str, pl.DataType]:
    """Types of the columns of a window's result rows."""
    return ROW_TYPES | {name: pl.Float64() for measure in window.measures for name in measure.names}


def measurements(events: pl.DataFrame, more: Sequence[str] = ()) -> pl.DataFrame:
    """Columns event_time, device, channel, value and ``more``: the numbers of decoded events, under the names they aggregate by.

    One numeric or on-off measurement goes by the channel's name, and what is null or not a number is left out. Where
    there are several, or none, they go by ``channel.field``, and the channel's name stands for the events themselves, with
    no value: they are counted.
    """
    names = [name for name, dtype in events.schema.items() if name not in HEADER_NAMES and is_aggregated(dtype)]
    parts = [_measurement(events, name, more, alone=len(names) == 1) for name in names]
    if len(parts) == 1:
        return parts[0]
    return pl.concat([events.select("event_time", *SERIES, pl.lit(None, pl.Float64).alias("value"), *more), *parts])


def _measurement(events: pl.DataFrame, name: str, more: Sequence[str], *, alone: bool) -> pl.DataFrame:
    channel = pl.col("channel") if alone else (pl.col("channel") + f".{name}").alias("channel")
    value = events.get_column(name)
    part = events.select("event_time", "device", channel, pl.col(name).cast(pl.Float64).alias("value"), *more)
    if value.null_count() or (value.dtype.is_float() and value.is_nan().any()):
        return part.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    return part


def slices(values: pl.DataFrame, width: int, measures: Sequence[Measure] = ()) -> pl.DataFrame:
    """Partials of `measurements`, per slice of ``width`` µs: columns slice, device, channel, and a partial's."""
    start = pl.col("event_time").floordiv(width).mul(width).alias("slice")
    return grouped(with_limbs(values.with_columns(start), measures), ["slice", *SERIES], measures)


def with_limbs(values: pl.DataFrame, measures: Sequence[Measure] = ()) -> pl.DataFrame:
    """Measurements with all that their partials are aggregated from."""
    high, middle, low, odd = exact.split(values.get_column("value").fill_null(0.0).to_numpy())
    table = values.with_columns(
        pl.Series("high", high),
        pl.Series("middle", middle),
        pl.lit(0, pl.Int64).alias("low") if low is None else pl.Series("low", low),
        *([pl.Series("odd", odd)] if odd is not None else []),
    )
    for measure in measures:
        table = measure.prepare(table)
    return table


def grouped(table: pl.DataFrame, keys: Sequence[str], measures: Sequence[Measure] = (), *more: pl.Expr) -> pl.DataFrame:
    """Partials of what `with_limbs` has made, by ``keys``, with the aggregations ``more``."""
    is_odd = "odd" in table.columns
    partials = table.group_by(keys).agg(
        pl.len().cast(pl.Int64).alias("count"),
        pl.col("high").sum(),
        pl.col("middle").sum(),
        pl.col("low").sum(),
        pl.col("value").min().alias("min"),
        pl.col("value").max().alias("max"),
        *([pl.col("value").filter(pl.col("odd")).alias("rest")] if is_odd else []),
        *more,
        *(expression for measure in measures for expression in measure.partial()),
    )
    if not is_odd:
        partials = partials.with_columns(_NO_REST)
    for measure in measures:
        partials = measure.tidy(partials)
    return partials


def coarser(partials: pl.DataFrame, width: int, measures: Sequence[Measure] = ()) -> pl.DataFrame:
    """`slices` of ``width`` µs out of narrower ones that divide it."""
    moved = partials.with_columns(pl.col("slice").floordiv(width).mul(width))
    return merged(moved, ["slice", *SERIES], measures)


def by_window(partials: pl.DataFrame, window: WindowSpec) -> Iterable[tuple[int, pl.DataFrame]]:
    """Window starts, each with the partial that ``partials``, slices of the window's own width, give it."""
    bounds = partials.get_column("slice").unique().to_list()
    for start in sorted({start for place in bounds for start in window.starts(place)}):
        inside = partials if len(bounds) == 1 else partials.filter(pl.col("slice").is_between(start, start + window.size, "left"))
        inside = inside.drop("slice")
        yield start, merge([inside], window.measures) if len(bounds) > 1 and window.slice < window.size else inside


def merge(partials: Sequence[pl.DataFrame], measures: Sequence[Measure] = ()) -> pl.DataFrame:
    """One partial out of several."""
    return merged(together(partials), list(SERIES), measures)


def together(partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Partials below one another, whatever the order of their columns."""
    if len(partials) == 1:
        return partials[0]
    columns = partials[0].columns
    return pl.concat([partial if partial.columns == columns else partial.select(columns) for partial in partials])


def merged(table: pl.DataFrame, keys: list[str], measures: Sequence[Measure] = (), *more: pl.Expr) -> pl.DataFrame:
    """Partials by ``keys`` out of `together` ones, with the aggregations ``more``."""
    plain = table.get_column("rest").null_count() == len(table)
    merges = [expression for measure in measures for expression in measure.merge()]
    found = table.group_by(keys).agg(*(_MERGES[:-1] if plain else _MERGES), *more, *merges)
    if plain:
        found = found.with_columns(_NO_REST)
    else:
        # Lists of lists, many of them null: rare enough for Python.
        listed = [[value for rest in lists for value in rest or ()] for lists in found.get_column("rest").to_list()]
        rests = [exact.reduce_rest(rest) or None for rest in listed]
        found = found.with_columns(pl.Series("rest", rests, pl.List(pl.Float64)))
    # Carried over, limbs can be summed again as often as wanted.
    limbs = exact.normalise(*(found.get_column(name).to_numpy() for name in ("high", "middle", "low")))
    found = found.with_columns(*(pl.Series(name, limb) for name, limb in zip(("high", "middle", "low"), limbs, strict=True)))
    for measure in measures:
        found = measure.tidy(found)
    return found


def rows(partial: pl.DataFrame, window: WindowSpec, start: int, *, pane: str, updated_at: int) -> pl.DataFrame:
    """Result rows (`row_types`) of a merged partial, by device and channel. Times in µs since 1970, UTC."""
    partial = partial.sort(SERIES)
    return partial.select(
        pl.lit(start, pl.Int64).alias("window_start"),
        pl.lit(start + window.size, pl.Int64).alias("window_end"),
        *SERIES,
        *results(partial, window.measures),
        pl.lit(pane).alias("pane"),
        pl.lit(updated_at, pl.Int64).alias("updated_at"),
    )


def results(partial: pl.DataFrame, measures: Sequence[Measure]) -> list[pl.Expr | pl.Series | str]:
    """What the rows of a merged partial come to: the columns from count on."""
    limbs = [partial.get_column(name).to_numpy() for name in ("high", "middle", "low")]
    sums = exact.total(*exact.normalise(*limbs))
    rests = partial.get_column("rest")
    # An empty list is what a series without a rest has beside one that has.
    for place in np.flatnonzero((rests.list.len().fill_null(0) > 0).to_numpy()).tolist():
        high, middle, low = (int(limb[place]) for limb in limbs)
        sums[place] = exact.total_with_rest(high, middle, low, rests[place])
    # Where nothing but events was counted there is no least value, and no sum either.
    total = pl.when(pl.col("min").is_null()).then(None).otherwise(pl.Series("sum", sums)).alias("sum")
    found: list[pl.Expr | pl.Series | str] = ["count", total, (total / pl.col("count")).alias("mean"), "min", "max"]
    return [*found, *(column for measure in measures for column in measure.finish(partial))]


def pack(partial: pl.DataFrame) -> bytes:
    """A partial as an Arrow IPC stream."""
    out = io.BytesIO()
    partial.write_ipc_stream(out, compression="uncompressed")
    return out.getvalue()


def unpack(data: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(data)
