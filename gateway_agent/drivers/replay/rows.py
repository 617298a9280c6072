"""Rows of a recording: CSV (RFC 4180) and JSON lines, each with its place in the file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gateway_agent.drivers.replay.lines import LINE_LIMIT

#: A quoted cell may span this many lines; one that spans more was never closed.
QUOTED_LINES: Final = 64

Cells = Sequence[str] | Mapping[str, Any]


class Row(NamedTuple):
    """A row and where it begins: byte offset and line number, from 1. ``cells`` is None when it cannot be read.

    ``size`` is its length in bytes, about.
    """

    offset: int
    line: int
    size: int
    cells: Any
    problem: str = ""


RowReader = Callable[[Iterable[tuple[int, bytes]], int], Iterator[Row]]


def csv_rows(lines: Iterable[tuple[int, bytes]], line: int, *, delimiter: str) -> Iterator[Row]:
    """Rows of CSV in UTF-8; ``line`` is the number of the first line. Blank lines are passed over.

    A quote that is never closed costs its own line only.
    """
    source = iter(lines)
    held: deque[tuple[int, bytes]] = deque()
    quote = ord('"')
    line -= 1
    while (item := held.popleft() if held else next(source, None)) is not None:
        offset, data = item
        line += 1
        if quote not in data and len(data) <= LINE_LIMIT:
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                yield Row(offset, line, len(data), None, f"not UTF-8: {error.reason} at byte {error.start + 1} of the line")
                continue
            if text and not text.isspace():
                yield Row(offset, line, len(data), text.split(delimiter))
            continue
        more: list[tuple[int, bytes]] = []
        cells, problem = _quoted([data], delimiter)
        while problem == _OPEN and len(more) < QUOTED_LINES - 1:
            following = held.popleft() if held else next(source, None)
            if following is None:
                break
            more.append(following)
            cells, problem = _quoted([data, *(text for _, text in more)], delimiter)
        if problem:
            held.extendleft(reversed(more))
            yield Row(offset, line, len(data), None, problem)
        else:
            yield Row(offset, line, len(data) + sum(len(text) for _, text in more), cells)
            line += len(more)


def jsonl_rows(lines: Iterable[tuple[int, bytes]], line: int) -> Iterator[Row]:
    """Rows that are JSON objects, one a line; ``line`` is the number of the first line. Blank lines are passed over."""
    decode = msgspec.json.Decoder().decode
    for number, (offset, data) in enumerate(lines, start=line):
        if not data.strip():
            continue
        if len(data) > LINE_LIMIT:
            yield Row(offset, number, len(data), None, _TOO_LONG)
            continue
        try:
            cells = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield Row(offset, number, len(data), None, f"not JSON: {error}")
            continue
        except RecursionError:
            yield Row(offset, number, len(data), None, "nested too deeply")
            continue
        if isinstance(cells, dict):
            yield Row(offset, number, len(data), cells)
        else:
            yield Row(offset, number, len(data), None, "not a JSON object")


_OPEN = "a quote is not closed"
_TOO_LONG = f"longer than {LINE_LIMIT} bytes"


def _quoted(lines: list[bytes], delimiter: str) -> tuple[list[str] | None, str]:
    if sum(map(len, lines)) > LINE_LIMIT:
        return None, _TOO_LONG
    try:
        text = b"\n".join(lines).decode()
    except UnicodeDecodeError as error:
        return None, f"not UTF-8: {error.reason} at byte {error.start + 1} of the row"
    ended = False

    def each() -> Iterator[str]:
        nonlocal ended
        for line in text.split("\n"):
            yield line + "\n"
        ended = True

    try:
        rows = list(csv.reader(each(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        # Under `strict`, wanting more than there is means to be inside a quoted cell.
        return None, _OPEN if ended else f"not CSV: {error}"
    return (rows[0], "") if len(rows) == 1 else (None, "not one row")
