"""``p50``, ``p95``, ``p99_9``: percentiles from a sketch of counted buckets (DDSketch, Masson, Rim and Lee, VLDB 2019).

A bucket holds values that differ by less than twice the accuracy; which one a value falls into depends on nothing else. So
merging adds counts, in any order, and a percentile is within the accuracy (relative) of the value at rank
``floor(p * (count - 1))``. Buckets and their values are those of the library's `CubicallyInterpolatedMapping`: no logarithms,
which differ in their last bit between machines. The library's sketches take one value at a time; here they are columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from ddsketch.mapping import CubicallyInterpolatedMapping as Mapping

from transforms.exact import Doubles, Ints

Keys = npt.NDArray[np.int32]
NAME: Final = re.compile(r"p(\d{1,2})(?:_(\d{1,4}))?")
LEAST_ACCURACY: Final = 1e-5
_KEYS: Final = "sketch.keys"
_COUNTS: Final = "sketch.counts"
#: Keys of positive values lie around it, those of negative ones around its negative, zero between: in the order of values.
_MIDDLE: Final = 1 << 30
_INFINITE: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Percentiles:
    """See `transforms.measures.contract.Measure`."""

    names: tuple[str, ...]
    accuracy: float

    def prepare(self, events: pl.DataFrame) -> pl.DataFrame:
        values = events.get_column("value")
        keys = pl.Series(_KEYS, keys_of(values.fill_null(0.0).to_numpy(), self.accuracy))
        if values.null_count():
            keys = keys.zip_with(values.is_not_null(), pl.Series([None], dtype=pl.Int32))
        return events.with_columns(keys)

    def partial(self) -> Sequence[pl.Expr]:
        keys = pl.col(_KEYS).drop_nulls()
        return [keys, pl.col(_KEYS).is_not_null().cast(pl.Int64).filter(pl.col(_KEYS).is_not_null()).alias(_COUNTS)]

    def merge(self) -> Sequence[pl.Expr]:
        return [pl.col(_KEYS), pl.col(_COUNTS)]

    def tidy(self, partials: pl.DataFrame) -> pl.DataFrame:
        rows, keys = _flat(partials.get_column(_KEYS))
        _, counts = _flat(partials.get_column(_COUNTS))
        order = np.lexsort((keys, rows))
        rows, keys, counts = rows[order], keys[order], counts[order]
        if len(rows):
            begins = np.flatnonzero(np.r_[True, (rows[1:] != rows[:-1]) | (keys[1:] != keys[:-1])])
            rows, keys, counts = rows[begins], keys[begins], np.add.reduceat(counts, begins)
        bounds = np.searchsorted(rows, np.arange(len(partials) + 1))
        return partials.with_columns(_lists(_KEYS, bounds, keys.astype(np.int32)), _lists(_COUNTS, bounds, counts))

    def finish(self, partials: pl.DataFrame) -> Sequence[pl.Series]:
        rows, keys = _flat(partials.get_column(_KEYS))
        _, counts = _flat(partials.get_column(_COUNTS))
        bounds = np.searchsorted(rows, np.arange(len(partials) + 1))
        below = np.r_[0, np.cumsum(counts)]
        some = np.flatnonzero(bounds[1:] > bounds[:-1])
        first, totals = below[bounds[:-1]][some], (below[bounds[1:]] - below[bounds[:-1]])[some]
        least, most = (partials.get_column(name).to_numpy()[some] for name in ("min", "max"))
        found = []
        for name in self.names:
            rank = np.floor(quantile_of(name) * (totals - 1)).astype(np.int64)
            place = np.searchsorted(below[1:], first + rank, side="right")
            values = np.full(len(partials), np.nan)
            values[some] = np.clip(values_of(keys[place], self.accuracy), least, most)
            found.append(pl.Series(name, values, nan_to_null=True))
        return found


def quantile_of(name: str) -> float:
    """0.999 of ``p99_9``."""
    return float(name[1:].replace("_", ".")) / 100


def keys_of(values: Doubles, accuracy: float) -> Keys:
    """The bucket of each value, in the order of values. The operations are the library's, one by one: so are the results."""
    mapping = _mapping(accuracy)
    sizes = np.abs(values)
    finite = np.where(np.isinf(sizes), 1.0, sizes)
    mantissa, exponent = np.frexp(finite)
    part = 2.0 * mantissa - 1.0
    logs = ((mapping.A * part + mapping.B) * part + mapping.C) * part + (exponent - 1)
    keys = np.ceil(logs * mapping._multiplier).astype(np.int64) + _MIDDLE  # noqa: SLF001  (it has no other name)
    keys = np.where(sizes > mapping.min_possible, keys, 0)
    keys = np.where(np.isinf(sizes), _INFINITE, keys)
    return np.where(values < 0, -keys, keys).astype(np.int32)


def values_of(keys: Keys, accuracy: float) -> Doubles:
    """The value that stands for each bucket."""
    different, places = np.unique(keys, return_inverse=True)
    return np.array([_value(key, accuracy) for key in different.tolist()], np.float64)[places]


def _value(key: int, accuracy: float) -> float:
    if key == 0:
        return 0.0
    try:
        size = np.inf if abs(key) == _INFINITE else _mapping(accuracy).value(abs(key) - _MIDDLE)
    except OverflowError:
        size = np.inf
    return -size if key < 0 else size


@lru_cache(maxsize=16)
def _mapping(accuracy: float) -> Mapping:
    return Mapping(accuracy)


def _flat(lists: pl.Series) -> tuple[Ints, npt.NDArray[Any]]:
    """The values in lists, or in lists of lists, each with the row it stands in."""
    array: Any = lists.rechunk().to_arrow()
    rows = np.arange(len(array))
    while pa.types.is_large_list(array.type):
        rows = np.repeat(rows, array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
        array = array.flatten()
    return rows, array.to_numpy(zero_copy_only=False)


def _lists(name: str, bounds: Ints, values: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(bounds, pa.int64()), pa.array(values)))
