"""Sessions: runs of a series' events with less than the gap between them, cut where a period ends. Columns only, no Beam.

A partial of a period has a row per device, channel and session: ``start`` and ``newest`` are its first and last event times,
beside what every partial has (`transforms.aggregates`). Merging joins sessions that meet; it is exact in any order and grouping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from transforms.aggregates import LATE, ON_TIME, SERIES, grouped, merged, results, row_types, together, with_limbs
from transforms.windows import WindowSpec

#: Sessions are looked at this many times within a gap.
_LOOKS: Final = 16
#: Whether an earlier state of the session is in a row that was given out; whether it has changed since; whether all of it came
#: after its end.
_GIVEN, _FRESH, _LATE = "given", "fresh", "late"
_FLAGS: Final = (pl.col(_GIVEN).any(), pl.col(_FRESH).any(), pl.col(_LATE).all())


def session_types(window: WindowSpec) -> dict[str, pl.DataType]:
    """Types of the columns of result rows."""
    return {"name": pl.String(), "period_start": pl.Int64(), **row_types(window)}


def partials(values: pl.DataFrame, window: WindowSpec) -> Iterator[tuple[int, pl.DataFrame]]:
    """Starts of periods, each with the partial that `transforms.aggregates.measurements` give it."""
    period = pl.col("event_time").floordiv(window.size).mul(window.size).alias("period")
    # A stable sort: within a session rows stay as the measures want them.
    table = with_limbs(values.with_columns(period), window.measures).sort(*SERIES, "event_time", maintain_order=True)
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in (*SERIES, "period"))
    goes_on = same & (pl.col("event_time") - pl.col("event_time").shift(1) < window.gap)
    numbered = table.with_columns((~goes_on).fill_null(value=True).cum_sum().alias("number"))
    times = (pl.col("event_time").min().alias("start"), pl.col("event_time").max().alias("newest"))
    found = grouped(numbered, ["period", *SERIES, "number"], window.measures, *times).drop("number")
    for (start,), part in found.partition_by("period", as_dict=True, include_key=False).items():
        yield start, part


def merge(parts: Sequence[pl.DataFrame], window: WindowSpec) -> pl.DataFrame:
    """One partial of a period out of several, with or without the flags of `arriving`."""
    table = together(parts).sort(*SERIES, "start")
    before = pl.col("newest").cum_max().shift(1).over(SERIES)
    begins = before.is_null() | (pl.col("start") - before >= window.gap)
    numbered = table.with_columns(begins.cum_sum().alias("number"))
    times = (pl.col("start").min(), pl.col("newest").max())
    flags = _FLAGS if _GIVEN in table.columns else ()
    return merged(numbered, [*SERIES, "number"], window.measures, *times, *flags).drop("number")


def rows(partial: pl.DataFrame, window: WindowSpec, period: int, *, pane: str | pl.Expr, updated_at: int) -> pl.DataFrame:
    """Result rows (`session_types`) of a merged partial. Times in µs since 1970, UTC."""
    partial = partial.sort(*SERIES, "start")
    return partial.select(
        pl.lit(window.name).alias("name"),
        pl.lit(period, pl.Int64).alias("period_start"),
        pl.col("start").alias("window_start"),
        _end(window, period).alias("window_end"),
        *SERIES,
        *results(partial, window.measures),
        (pl.lit(pane) if isinstance(pane, str) else pane).alias("pane"),
        pl.lit(updated_at, pl.Int64).alias("updated_at"),
    )


def arriving(partial: pl.DataFrame, window: WindowSpec, period: int, watermark: int) -> pl.DataFrame:
    """A partial with the flags that sessions carry while they may change. ``watermark`` is the source's, of when it was read."""
    flags = (
        pl.lit(value=False).alias(_GIVEN),
        pl.lit(value=True).alias(_FRESH),
        (_end(window, period) <= watermark).alias(_LATE),
    )
    return partial.with_columns(*flags)


def look_at(partial: pl.DataFrame, window: WindowSpec, period: int, *, after: int) -> int | None:
    """The next time after ``after`` at which a session of it may be to be given out; None when none waits for it."""
    due = partial.filter(pl.col(_FRESH)).select(_due(window, period).min()).item()
    return None if due is None else max(due, after + 1)


def ready(partial: pl.DataFrame, window: WindowSpec, period: int, *, time: int, updated_at: int) -> pl.DataFrame:
    """Result rows of the sessions that are to be given out when the watermark is at ``time``.

    Those on time wait for the next look, the same for all shards, so that their rows come in the order of their ends.
    """
    corrected = (pl.col(_GIVEN) | pl.col(_LATE)) & (_end(window, period) <= time)
    chosen = partial.filter(pl.col(_FRESH) & (corrected | (_due(window, period) <= time)))
    pane = pl.when(pl.col(_GIVEN) | pl.col(_LATE)).then(pl.lit(LATE)).otherwise(pl.lit(ON_TIME))
    return rows(chosen, window, period, pane=pane, updated_at=updated_at)


def after_giving(partial: pl.DataFrame, window: WindowSpec, period: int, *, time: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What stands after `ready`: the sessions that have ended and were given out, and the others."""
    corrected = (pl.col(_GIVEN) | pl.col(_LATE)) & (_end(window, period) <= time)
    out = pl.col(_FRESH) & (corrected | (_due(window, period) <= time))
    now = partial.with_columns((pl.col(_GIVEN) | out).alias(_GIVEN), (pl.col(_FRESH) & ~out).alias(_FRESH))
    return now.filter(~pl.col(_FRESH)), now.filter(pl.col(_FRESH))


def _end(window: WindowSpec, period: int) -> pl.Expr:
    return pl.min_horizontal(pl.col("newest") + window.gap, pl.lit(period + window.size, pl.Int64))


def _due(window: WindowSpec, period: int) -> pl.Expr:
    """The look at which a session has ended: at the end of its period at the latest, as everything in it was written then."""
    step = max(1, window.gap // _LOOKS)
    looked = (_end(window, period) + (step - 1)).floordiv(step).mul(step)
    return pl.min_horizontal(looked, pl.lit(period + window.size, pl.Int64))
