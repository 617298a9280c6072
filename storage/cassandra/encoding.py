"""Rows into the writes that put them into their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import polars as pl

from storage.cassandra.layout import NEWEST, Layout
from storage.cassandra.statements import delete, insert

#: Statements of one request: enough to save requests, few enough to be no burden.
_MOST: Final = 40


class Write(NamedTuple):
    """A statement's text and its parameters."""

    text: str
    parameters: tuple[Any, ...]


#: What goes in one request; all of it is for one partition, and comes to be at once.
Request = list[Write]


def conformed(layout: Layout, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the columns of the layout; of several of a key the one that stands; those of a partition together."""
    rows = rows.fill_nan(None).with_columns(item.expression.alias(item.name) for item in layout.derived)
    return layout.table.standing(rows).sort(layout.key)


def requests(layout: Layout, rows: pl.DataFrame, clock: Any, ttl: int) -> Iterator[Request]:
    """Of rows that are `conformed`."""
    names = rows.columns
    width = len(layout.partition)
    place = [names.index(name) for name in layout.partition]
    for _, members in groupby(rows.iter_rows(), itemgetter(*place) if width > 1 else itemgetter(place[0])):
        request: Request = []
        for row in members:
            if len(request) >= _MOST:
                yield request
                request = []
            request += replacing(layout, names, row, clock(), ttl)
        yield request


def replacing(layout: Layout, names: Sequence[str], row: tuple[Any, ...], timestamp: int, ttl: int) -> Request:
    """Writes that put ``row`` in place of the one of its key.

    A null is not written, for each would be a grave (tombstone) that readers have to pass by; instead the row that was
    there is deleted as a whole, a moment earlier.
    """
    given = [(name, value) for name, value in zip(names, row, strict=True) if value is not None]
    columns = [name for name, _ in given]
    put = Write(insert(layout, columns), (*(value for _, value in given), timestamp, ttl))
    if len(given) == len(row):
        return [put]
    values = dict(given)
    return [Write(delete(layout), (timestamp - 1, *(values[name] for name in layout.key))), put]


def newest(layout: Layout, rows: pl.DataFrame) -> Iterator[Request]:
    """Requests for rows of which only the newest stands, that are `conformed`.

    A row is one value in one column, whose timestamp is the first of what decides which is newer; of values of one timestamp
    Cassandra keeps the one whose bytes are greater, and the others that decide come first in them. So any writers, in any order,
    come to the same without asking what is there.
    """
    columns = (*layout.key, NEWEST)
    text = insert(layout, columns)
    key = [rows.get_column(name).to_list() for name in layout.key]
    inner = [rows.get_column(column.name).to_list() for column in layout.inner]
    for parts, value in zip(zip(*key, strict=True), zip(*inner, strict=True), strict=True):
        yield [Write(text, (*parts, value, value[0], 0))]
