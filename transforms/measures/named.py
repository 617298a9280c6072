"""From the names in a pipeline's file to measures."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.errors import ConfigurationError
from transforms.measures.contract import Measure
from transforms.measures.deviation import Deviation
from transforms.measures.ends import Ends
from transforms.measures.own import Own

#: Given with every window.
ALWAYS: Final = ("count", "sum", "mean", "min", "max")
_ENDS: Final = ("first", "last")
_TAKEN: Final = (*ALWAYS, *_ENDS, "stddev", "name", "pane", "device", "channel", "others", "value")


class AggregateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[aggregates.NAME]``: an aggregate of the user's own."""

    #: ``module:Class``, or the name of an entry point in the group ``iotcloud.aggregates``.
    use: str
    options: dict[str, Any] = {}


def measures_of(
    names: Sequence[str], *, accuracy: float, own: Mapping[str, AggregateConfig], where: str = ""
) -> tuple[Measure, ...]:
    """The measures for ``names``, in an order of their own. Raises `ConfigurationError`."""
    from transforms.measures.percentiles import LEAST_ACCURACY, NAME, Percentiles, quantile_of

    for name in own:
        if not name.isidentifier() or name in _TAKEN or NAME.fullmatch(name) or name.endswith("_start"):
            raise ConfigurationError(
                f"aggregates.{name}: is no name for an aggregate", remedy="letters, digits and '_'; not one of ours"
            )
    if not LEAST_ACCURACY <= accuracy <= 0.1:
        raise ConfigurationError(f"{where}accuracy: must be from {LEAST_ACCURACY:g} to 0.1")
    asked = [name for name in dict.fromkeys(names) if name not in ALWAYS]
    percentiles = tuple(name for name in asked if NAME.fullmatch(name) and quantile_of(name) > 0 and name not in own)
    for name in asked:
        if name not in {"stddev", *_ENDS, *percentiles, *own}:
            near = difflib.get_close_matches(name, [*ALWAYS, "stddev", *_ENDS, "p50", "p95", *own], 1)
            raise ConfigurationError(
                f"{where}aggregates: there is no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                remedy="stddev, first, last, percentiles such as p95 or p99_9, and what [aggregates.NAME] defines",
            )
    found: list[Measure] = []
    if "stddev" in asked:
        found.append(Deviation())
    if ends := tuple(name for name in _ENDS if name in asked):
        found.append(Ends(ends))
    if percentiles:
        found.append(Percentiles(percentiles, accuracy))
    for name in asked:
        if name in own:
            measure = Own(name, own[name].use, json.dumps(own[name].options, sort_keys=True, default=str))
            measure.check()
            found.append(measure)
    return tuple(found)
