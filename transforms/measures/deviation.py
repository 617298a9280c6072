"""``stddev``: the sample standard deviation, equal to `statistics.stdev`, whatever the order and grouping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from transforms.measures import squares

_LIMBS: Final = tuple(f"stddev.{place}" for place in range(squares.LIMBS))
_REST: Final = "stddev.rest"


@dataclass(frozen=True, slots=True)
class Deviation:
    """See `transforms.measures.contract.Measure`."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("stddev",)

    def prepare(self, events: pl.DataFrame) -> pl.DataFrame:
        values = events.get_column("value").fill_null(0.0)
        rest = pl.Series(_REST, [None], pl.Binary).extend_constant(None, len(values) - 1) if len(values) else None
        if "odd" in events.columns:
            odd = events.get_column("odd")
            listed = [squares.pack(value) if is_odd else None for value, is_odd in zip(values, odd, strict=True)]
            rest = pl.Series(_REST, listed, pl.Binary)
            values = values.zip_with(~odd, pl.zeros(len(values), pl.Float64, eager=True))
        limbs = squares.split(values.to_numpy())
        columns = [
            pl.lit(0, pl.Int64).alias(name) if limb is None else pl.Series(name, limb)
            for name, limb in zip(_LIMBS, limbs, strict=True)
        ]
        return events.with_columns(*columns, rest if rest is not None else pl.lit(None, pl.Binary).alias(_REST))

    def partial(self) -> Sequence[pl.Expr]:
        return [*(pl.col(name).sum() for name in _LIMBS), pl.col(_REST).drop_nulls()]

    def merge(self) -> Sequence[pl.Expr]:
        return self.partial()

    def tidy(self, partials: pl.DataFrame) -> pl.DataFrame:
        limbs = squares.normalise([partials.get_column(name).to_numpy() for name in _LIMBS])
        rest = partials.get_column(_REST)
        if rest.list.len().sum():
            sums = [squares.add(found) if found else None for found in rest.to_list()]
            rest = pl.Series(_REST, sums, pl.Binary)
        else:
            rest = pl.Series(_REST, [None] * len(partials), pl.Binary)
        return partials.with_columns(*(pl.Series(name, limb) for name, limb in zip(_LIMBS, limbs, strict=True)), rest)

    def finish(self, partials: pl.DataFrame) -> Sequence[pl.Series]:
        sums = partials.select("min", "count", "high", "middle", "low", "rest", _REST, *_LIMBS).rows()
        found = [
            None
            if least is None
            else squares.deviation(count, (high << 80) + (middle << 40) + low, list(limbs), rest or [], square)
            for least, count, high, middle, low, rest, square, *limbs in sums
        ]
        return [pl.Series("stddev", found, pl.Float64)]
