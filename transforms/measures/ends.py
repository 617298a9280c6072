"""``first`` and ``last``: the values of the oldest and the newest event of a window.

Of events of one time the one of the lower (first) or higher (last) epoch, seq and value counts, so that the order in which they
come does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

_ORDER: Final = ("event_time", "epoch", "seq", "value")


@dataclass(frozen=True, slots=True)
class Ends:
    """See `transforms.measures.contract.Measure`. ``names`` are "first", "last" or both."""

    names: tuple[str, ...]

    def prepare(self, events: pl.DataFrame) -> pl.DataFrame:
        # Zero has two signs, which compare as equal.
        return events.with_columns((pl.col("value") + 0.0).alias("value")).sort(_ORDER)

    def partial(self) -> Sequence[pl.Expr]:
        event = pl.struct(_ORDER)
        return [(event.first() if name == "first" else event.last()).alias(f"{name}.event") for name in self.names]

    def merge(self) -> Sequence[pl.Expr]:
        found = []
        for name in self.names:
            event = pl.col(f"{name}.event")
            ordered = event.sort_by(*(event.struct.field(field) for field in _ORDER))
            found.append(ordered.first() if name == "first" else ordered.last())
        return found

    def tidy(self, partials: pl.DataFrame) -> pl.DataFrame:
        return partials

    def finish(self, partials: pl.DataFrame) -> Sequence[pl.Series]:
        return [partials.get_column(f"{name}.event").struct.field("value").alias(name) for name in self.names]
