"""Conditions: SQL expressions over the columns of a row, parsed by polars (`polars.sql_expr`)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

import polars as pl

from schemas.errors import ConfigurationError

#: What makes an expression look at other rows than its own, as polars writes it.
_ACROSS_ROWS: Final = re.compile(
    r"\.(mean|sum|count|len|min|max|first|last|std|var|median|mode|n_unique|quantile|over|shift|implode|sort|sort_by|rank|unique"
    r"|cum_\w+|rolling_\w+|int_range|filter|slice|gather|get|arg_\w+|any|all|approx_n_unique)\(|\blen\(\)|\bSUBPLAN\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def parse(text: str) -> pl.Expr:
    """Raises `ConfigurationError` for what is no expression of one row."""
    try:
        expression = pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise ConfigurationError(
            f"{text!r} is no condition: {error}", remedy='write it as SQL does, such as "mean > 70"'
        ) from error
    # Names of columns are the user's and may look like anything.
    shape = re.sub(r'col\("[^"]*"\)|"[^"]*"', "_", str(expression))
    if found := _ACROSS_ROWS.search(shape):
        raise ConfigurationError(
            f"{text!r} looks at more than one row ({(found[1] or found[0]).lower()})",
            remedy="a condition sees one event, or one window; put the function into the windows' aggregates",
        )
    return expression


def check(text: str, schemas: Collection[Mapping[str, pl.DataType]]) -> None:
    """Raise `ConfigurationError` unless it is a yes-or-no question about at least one of ``schemas``."""
    problems: list[str] = []
    for schema in schemas:
        problem = misfit(text, schema)
        if not problem:
            return
        if problem not in problems:
            problems.append(problem)
    raise ConfigurationError(f"{text!r}: " + "; ".join(problems))


def misfit(text: str, schema: Mapping[str, pl.DataType]) -> str:
    """Why a condition does not fit rows of these columns; empty when it does."""
    expression = parse(text)
    for name in expression.meta.root_names():
        if name not in schema:
            near = difflib.get_close_matches(name, schema, n=1, cutoff=0.5)
            return f"there is no column {name!r}; " + (f"did you mean {near[0]!r}?" if near else "columns: " + ", ".join(schema))
    try:
        dtype = pl.DataFrame(schema=dict(schema)).select(expression.alias("_")).schema["_"]
    except pl.exceptions.PolarsError as error:
        return str(error).splitlines()[0]
    return "" if dtype == pl.Boolean else f"gives {dtype}, not yes or no"
