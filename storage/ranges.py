"""Rows that hold ranges: a new one takes over its range from those before it, of which remains what lies outside."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def overlay(rows: Iterable[Row], later: Sequence[Row]) -> list[Row]:
    """``rows``, which do not overlap, after ``later`` have been laid over them in order. Sorted by ``first``.

    A range is ``first`` to ``last``, inclusive; ``count`` is made to fit.
    """
    standing = sorted(rows, key=_first)
    for row in later:
        start = bisect_left(standing, row["first"], key=_first)
        if start and standing[start - 1]["last"] >= row["first"]:
            start -= 1
        end = bisect_left(standing, row["last"] + 1, lo=start, key=_first)
        left = [_cut(other, other["first"], row["first"] - 1) for other in standing[start:end] if other["first"] < row["first"]]
        right = [_cut(other, row["last"] + 1, other["last"]) for other in standing[start:end] if other["last"] > row["last"]]
        standing[start:end] = [*left, _cut(row, row["first"], row["last"]), *right]
    return standing


def _first(row: Row) -> int:
    return int(row["first"])


def _cut(row: Row, first: int, last: int) -> Row:
    return {**row, "first": first, "last": last, "count": last - first + 1}
