"""Rows that hold ranges: a new one takes over its range from those before it, of which remains what lies outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def overlay(rows: Iterable[Row], later: Sequence[Row]) -> list[Row]:
    """``rows``, which do not overlap, after ``later`` have been laid over them in order. Sorted by ``first``.

    A range is ``first`` to ``last``, inclusive; ``count`` is made to fit.
    """
    standing = {row["first"]: row for row in rows}
    for row in later:
        for other in [other for other in standing.values() if other["first"] <= row["last"] and other["last"] >= row["first"]]:
            del standing[other["first"]]
            if other["first"] < row["first"]:
                standing[other["first"]] = _cut(other, other["first"], row["first"] - 1)
            if other["last"] > row["last"]:
                standing[row["last"] + 1] = _cut(other, row["last"] + 1, other["last"])
        standing[row["first"]] = _cut(row, row["first"], row["last"])
    return sorted(standing.values(), key=lambda row: int(row["first"]))


def _cut(row: Row, first: int, last: int) -> Row:
    return {**row, "first": first, "last": last, "count": last - first + 1}
