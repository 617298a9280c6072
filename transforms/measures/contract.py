"""What a measure is: columns of partials, how they are merged, and what they come to. `Aggregate` is the form users write.

Partials are merged in any order and grouping, and some events come again after a restart: the same events must give the
same row. So no measure may depend on order; sums of floats do (`transforms.exact` shows another way).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import polars as pl


class Aggregate(Protocol):
    """An aggregate of a user's own. Expressions are polars'; every method names columns as it likes, they are kept apart.

    The class is called with its options from the pipeline's file as keyword arguments.
    """

    def partial(self, events: Mapping[str, pl.Expr]) -> Mapping[str, pl.Expr]:
        """What a partial keeps, by name: aggregations of events, ``value`` (float), ``event_time`` (µs), ``epoch``, ``seq``."""

    def merge(self, parts: Mapping[str, pl.Expr]) -> Mapping[str, pl.Expr]:
        """The same names: aggregations of several partials into one."""

    def finish(self, part: Mapping[str, pl.Expr]) -> pl.Expr:
        """The result, a number, of what one partial keeps; ``count``, ``min`` and ``max`` are there too."""


class Measure(Protocol):
    """What partials carry for it stands in columns that no other measure uses. Hashable, and small when pickled."""

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of result rows that it gives, all of them floats."""

    def prepare(self, events: pl.DataFrame) -> pl.DataFrame:
        """Measurements with the columns that `partial` needs. Columns event_time, epoch, seq, value, and what
        `transforms.aggregates.slices` has added."""

    def partial(self) -> Sequence[pl.Expr]:
        """Aggregations of the events of one partial."""

    def merge(self) -> Sequence[pl.Expr]:
        """Aggregations of partials into one."""

    def tidy(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Partials as they are kept, from what `partial` or `merge` has made."""

    def finish(self, partials: pl.DataFrame) -> Sequence[pl.Series]:
        """One column for each of `names`."""
