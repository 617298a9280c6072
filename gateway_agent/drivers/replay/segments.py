"""Parts of a recording whose rows can be had in the order of time in little memory.

A file need not be in the order of time: many list one device after another. One pass finds the stretches that are in
order (runs). Long runs are read side by side, each through a small buffer. Neighbouring short runs make a block that is
sorted in memory when its time comes; so a file that is out of order here and there costs a block now and then.

Rows are ordered by (time, byte offset): rows of one time by their place in the file, and every row has one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway_agent.drivers.replay.rows import Row

#: Rows of a block at most; a longer run stands alone.
BLOCK_ROWS: Final = 2_048

#: Time in µs since 1970 and byte offset of a row: its place in a replay.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows between two byte offsets; ``line`` is the number of the first line, ``earliest`` and ``latest`` are times in µs."""

    start: int
    end: int
    line: int
    rows: int
    earliest: int
    latest: int
    in_order: bool


def find_segments(
    rows: Iterable[Row],
    time: Callable[[Row], int | None],
    *,
    end: int,
    after: Place | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Segment]:
    """Segments, in the order of the file, of the ``rows`` of a file that ends at ``end``.

    Rows without a time and those not ``after`` the given place may lie within segments, but have no part in them.
    """
    block: Segment | None = None
    for run in _runs(rows, time, end=end, after=after):
        if block and block.rows + run.rows <= block_rows:
            block = Segment(
                start=block.start,
                end=run.end,
                line=block.line,
                rows=block.rows + run.rows,
                earliest=min(block.earliest, run.earliest),
                latest=max(block.latest, run.latest),
                in_order=False,
            )
            continue
        if block:
            yield block
        block = run
    if block:
        yield block


def _runs(rows: Iterable[Row], time: Callable[[Row], int | None], *, end: int, after: Place | None) -> Iterator[Segment]:
    start = line = count = first = last = 0
    for row in rows:
        at = time(row)
        if at is None or (after is not None and (at, row.offset) <= after):
            continue
        if count and at < last:
            yield Segment(start, row.offset, line, count, first, last, in_order=True)
            count = 0
        if not count:
            start, line, first = row.offset, row.line, at
        last = at
        count += 1
    if count:
        yield Segment(start, end, line, count, first, last, in_order=True)
