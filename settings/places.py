"""Where things stand in a TOML file: paths of keys, and the lines they are on.

A path holds the keys from the outermost table inwards; the items of an array of tables are ``[0]``, ``[1]`` ….
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

Path = tuple[str, ...]

_TABLE: Final = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_KEY: Final = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_LONG_TEXT: Final = re.compile(r"\"{3}|'{3}")


def item_key(number: int) -> str:
    """The key of an array's item, counted from 0."""
    return f"[{number}]"


def shown(path: Path) -> str:
    """A path as a person writes it: ``channels[1].name``."""
    return ".".join(path).replace(".[", "[")


def lines_of(text: str) -> dict[Path, int]:
    """The line on which each key and table of a TOML text stands, by path."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    long_text = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not long_text:
            if match := _TABLE.match(line):
                table = _table(_keys(match[2]), counts, opens_item=match[1] == "[[")
                lines.setdefault(table, number)
            elif match := _KEY.match(line):
                lines.setdefault((*table, *_keys(match[1])), number)
        for mark in _LONG_TEXT.findall(line):
            long_text = mark if not long_text else "" if mark == long_text else long_text
    return lines


def line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """The line of a key, or of the innermost table around it that is known."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


def place(origin: str, path: Path, lines: Mapping[Path, int]) -> str:
    """Where a value stands, for errors: ``file:line: channels[1].name``, as far as it is known."""
    line = line_of(path, lines)
    where = f"{origin}:{line}" if line else origin
    return f"{where}: {shown(path)}" if path else where


def _table(keys: Path, counts: dict[Path, int], *, opens_item: bool) -> Path:
    """The path of a table's head: within arrays of tables it means their newest items."""
    path: Path = ()
    for key in keys[:-1]:
        path = _newest((*path, key), counts)
    path = (*path, keys[-1])
    if opens_item:
        counts[path] = counts.get(path, 0) + 1
    return _newest(path, counts)


def _newest(path: Path, counts: Mapping[Path, int]) -> Path:
    return (*path, item_key(counts[path] - 1)) if path in counts else path


def _keys(dotted: str) -> Path:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted))
