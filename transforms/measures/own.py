"""A user's aggregate as a measure: its columns are kept apart by its name, and it is found and made where it is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

import polars as pl

from schemas.errors import ConfigurationError
from transforms.measures.contract import Aggregate

#: Third-party aggregates announce themselves under it.
GROUP: Final = "iotcloud.aggregates"
_EVENT: Final = ("value", "event_time", "epoch", "seq")
_SHARED: Final = ("count", "min", "max")


@dataclass(frozen=True, slots=True)
class Own:
    """See `transforms.measures.contract.Measure`. ``options`` is JSON: a measure is hashable."""

    name: str
    use: str
    options: str = "{}"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, events: pl.DataFrame) -> pl.DataFrame:
        return events

    def partial(self) -> Sequence[pl.Expr]:
        return self._named(self._aggregate.partial({name: pl.col(name) for name in _EVENT}))

    def merge(self) -> Sequence[pl.Expr]:
        return self._named(self._aggregate.merge(self._columns()))

    def tidy(self, partials: pl.DataFrame) -> pl.DataFrame:
        return partials

    def finish(self, partials: pl.DataFrame) -> Sequence[pl.Series]:
        columns = {name: pl.col(name) for name in _SHARED} | self._columns()
        result = self._aggregate.finish(columns).cast(pl.Float64).alias(self.name)
        return [partials.select(result).get_column(self.name)]

    def check(self) -> None:
        """Try it on a few values. Raises `ConfigurationError`."""
        events = pl.DataFrame({"value": [1.0, 2.0], "event_time": [1, 2], "epoch": [1, 1], "seq": [1, 2]})
        try:
            one = events.select(*self.partial(), pl.len().alias("count"), min=pl.col("value").min(), max=pl.col("value").max())
            both = pl.concat([one, one]).group_by("count").agg(*self.merge(), pl.col("min").min(), pl.col("max").max())
            self.finish(both)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"aggregates.{self.name}: {self.use} does not work: {type(error).__name__}: {error}",
                remedy="see transforms/measures/README.md",
            ) from error

    @property
    def _aggregate(self) -> Aggregate:
        return _made(self.name, self.use, self.options)

    def _columns(self) -> dict[str, pl.Expr]:
        kept = self._aggregate.partial({name: pl.col(name) for name in _EVENT})
        return {name: pl.col(f"{self.name}.{name}") for name in kept}

    def _named(self, expressions: Mapping[str, pl.Expr]) -> list[pl.Expr]:
        return [expression.alias(f"{self.name}.{name}") for name, expression in expressions.items()]


@lru_cache(maxsize=64)
def _made(name: str, use: str, options: str) -> Aggregate:
    try:
        aggregate: Aggregate = _found(use)(**json.loads(options))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"aggregates.{name}: {use}: {error}", remedy=f'write "module:Class", or the name of an entry point in {GROUP}'
        ) from error
    return aggregate


def _found(use: str) -> Any:
    module, colon, attribute = use.partition(":")
    if colon:
        return getattr(import_module(module), attribute)
    for entry in entry_points(group=GROUP, name=use):
        return entry.load()
    raise ImportError("no such entry point")
