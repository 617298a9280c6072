"""Rows of all segments, merged by time, with as few segments open at a time as their times allow."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from gateway_agent.drivers.replay.rows import Row
from gateway_agent.drivers.replay.segments import Segment
from schemas.errors import ConfigurationError

#: Runs that may be read side by side; each has a buffer.
MAX_RUNS: Final = 1_024
#: Rows that sorted blocks may hold at a time, together.
MAX_HELD_ROWS: Final = 64 * 1_024

#: Time in µs since 1970, and the row.
Timed = tuple[int, Row]


class TooDisordered(ConfigurationError):
    """A recording whose rows cannot be merged in bounded memory."""


def check_overlap(segments: Sequence[Segment], *, file: str) -> int:
    """The most runs that will be open at a time. Raises `TooDisordered` when a merge would take too much memory."""
    changes = sorted(
        (at, closes, segment.in_order, segment.rows)
        for segment in segments
        for at, closes in ((segment.earliest, False), (segment.latest, True))
    )
    runs = most_runs = held = most_held = 0
    for _, closes, in_order, rows in changes:
        sign = -1 if closes else 1
        if in_order:
            runs += sign
        else:
            held += sign * rows
        most_runs, most_held = max(most_runs, runs), max(most_held, held)
    if most_runs > MAX_RUNS or most_held > MAX_HELD_ROWS:
        raise TooDisordered(
            f"{file}: its rows are so far out of the order of time that {most_runs} stretches and {most_held} rows"
            " would have to be read at a time",
            remedy="sort the file by time first",
        )
    return most_runs


def merge(segments: Iterable[Segment], read: Callable[[Segment], Iterator[Timed]]) -> Iterator[Timed]:
    """All rows in the order of (time, offset). ``read`` gives those of a segment in the order of the file."""
    waiting = sorted(segments, key=lambda segment: (segment.earliest, segment.start), reverse=True)
    #: Time, offset (never equal for two rows), row, and where the next one comes from.
    heap: list[tuple[int, int, Row, Iterator[Timed]]] = []
    while heap or waiting:
        # A row of the same time may stand earlier in a segment not yet open.
        while waiting and (not heap or waiting[-1].earliest <= heap[0][0]):
            segment = waiting.pop()
            timed = read(segment)
            _push(heap, timed if segment.in_order else iter(sorted(timed, key=_place)))
        if not heap:
            continue
        time, _, row, source = heap[0]
        yield time, row
        following = next(source, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following[0], following[1].offset, following[1], source))


def _push(heap: list[tuple[int, int, Row, Iterator[Timed]]], source: Iterator[Timed]) -> None:
    first = next(source, None)
    if first is not None:
        heapq.heappush(heap, (first[0], first[1].offset, first[1], source))


def _place(timed: Timed) -> tuple[int, int]:
    return timed[0], timed[1].offset
