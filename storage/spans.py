"""Rows that hold spans of time: a new one takes the place of all that it overlaps in its group."""

from __future__ import annotations

import polars as pl

from storage.tables import Table

_SPAN = ("window_start", "window_end")


def survivors(rows: pl.DataFrame, spec: Table) -> pl.DataFrame:
    """Those of ``rows``, written in their order, that stand in the end; what they overlap in a store goes, whichever stood.

    A span is ``window_start`` to ``window_end`` (exclusive); one without length overlaps what starts where it does.
    """
    group = list(spec.key[:-1])
    ordered = rows.sort(*group, *_SPAN)
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in group)
    meets = (pl.col("window_end").shift(1) > pl.col("window_start")) | (pl.col("window_start").shift(1) == pl.col("window_start"))
    crowded = ordered.filter((same & meets).fill_null(value=False)).select(group).unique()
    if crowded.is_empty():
        return rows
    numbered = rows.with_row_index("_place")
    kept: list[int] = numbered.join(crowded, on=group, how="anti").get_column("_place").to_list()
    for part in numbered.join(crowded, on=group, how="semi").sort("_place").partition_by(group):
        standing: list[tuple[int, int, int]] = []
        for span in part.select("_place", *_SPAN).iter_rows():
            standing = [other for other in standing if _apart(other, span)]
            standing.append(span)
        kept += [place for place, *_ in standing]
    return rows[sorted(kept)]


def _apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    (_, start, end), (_, other_start, other_end) = one, other
    return start != other_start and (end <= other_start or other_end <= start)
