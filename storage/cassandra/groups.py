"""Rows that take over from those they overlap: read, merged, and written if nobody else did so meanwhile.

All rows of a group are one partition, with a revision that every change to it changes. A conditional batch (Paxos, at the
serial consistency) writes what is to change and the next revision, if the one that was read still stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol
from uuid import uuid4

import polars as pl

from storage.cassandra.encoding import Request, Write
from storage.cassandra.failures import NotApplied, is_transient
from storage.cassandra.layout import Layout
from storage.cassandra.statements import delete_plainly, insert_plainly, revise, select
from storage.ranges import overlay
from storage.spans import survivors

Row = dict[str, Any]
Group = tuple[tuple[Any, ...], list[Row]]

#: Rows of one group that are written at once, and groups that are read and written together.
_MOST_ROWS: Final = 500
_PORTION: Final = 200


class Run(Protocol):
    def __call__(self, portion: Sequence[Request], *, conditional: bool = False) -> list[Any]:
        """What came of each request: its rows, or its error."""


def merge_groups(
    layout: Layout, rows: pl.DataFrame, ttl: int, *, run: Run, retried: Callable[[Callable[[], None]], None]
) -> None:
    """Lay ``rows`` over what stands, each group for itself. Raises `NotApplied` and the driver's errors."""
    group = itemgetter(*layout.partition)
    # A stable sort: the rows of a group keep their order.
    whole: list[Group] = [
        (key, list(members)) for key, members in groupby(sorted(rows.fill_nan(None).to_dicts(), key=group), group)
    ]
    # Each round takes up to so many rows of each group, which keep their order.
    rounds = max(-(-len(members) // _MOST_ROWS) for _, members in whole)
    for number in range(rounds):
        part = slice(number * _MOST_ROWS, (number + 1) * _MOST_ROWS)
        groups = [(key, members[part]) for key, members in whole if members[part]]
        for first in range(0, len(groups), _PORTION):
            left = groups[first : first + _PORTION]

            def send() -> None:
                nonlocal left
                left = _send(layout, left, ttl, run)
                if left:
                    raise NotApplied(f"{len(left)} of its groups were changed by others in between")

            retried(send)


def _send(layout: Layout, groups: list[Group], ttl: int, run: Run) -> list[Group]:
    """Read, merge and write groups. Returns those that others changed meanwhile; raises if one failed."""
    found = _checked(run([[Write(select(layout), key)] for key, _ in groups]))
    changes = [_change(layout, key, rows, later, ttl) for (key, later), rows in zip(groups, found, strict=True)]
    sent = [(group, change) for group, change in zip(groups, changes, strict=True) if change]
    results = _checked(run([change for _, change in sent], conditional=True))
    return [group for (group, _), result in zip(sent, results, strict=True) if not result[0].applied]


def _checked(results: list[Any]) -> list[Any]:
    errors = [result for result in results if isinstance(result, Exception)]
    for error in errors:
        if not is_transient(error):
            raise error
    if errors:
        raise errors[0]
    return results


def _change(layout: Layout, key: tuple[Any, ...], rows: list[Any], later: list[Row], ttl: int) -> Request:
    """What turns ``rows``, as they were read, into what stands after ``later``; empty when they are that already."""
    revision = rows[0][-1] if rows else None
    ordering = layout.clustering[0]
    names = layout.table.names
    # A partition whose last row has gone still has its revision, in a row without the rest.
    standing = [row for row in (dict(zip(names, row, strict=False)) for row in rows) if row[ordering] is not None]
    before = {row[ordering]: row for row in standing}
    after = {row[ordering]: row for row in _merged(layout, standing, later)}
    request: Request = []
    # A row that is both deleted and inserted at one time would be gone: it is overwritten instead, nulls and all.
    for place in before.keys() - after.keys():
        request.append(Write(delete_plainly(layout), (*key, place)))
    for place, row in after.items():
        if before.get(place) != row:
            request.append(_put(layout, row, cleared=place in before, ttl=ttl))
    if request:
        request.append(Write(revise(layout), (uuid4(), *key, revision)))
    return request


def _put(layout: Layout, row: Row, *, cleared: bool, ttl: int) -> Write:
    columns = [name for name in layout.table.names if cleared or row[name] is not None]
    return Write(insert_plainly(layout, columns), (*(row[name] for name in columns), ttl))


def _merged(layout: Layout, standing: list[Row], later: list[Row]) -> list[Row]:
    if layout.table.merge == "ranges":
        return overlay(standing, later)
    types = layout.table.types
    return survivors(pl.DataFrame([*standing, *later], schema=types), layout.table).to_dicts()
