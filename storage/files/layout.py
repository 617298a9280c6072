"""Where things lie below the root, and what their names say.

``journal/topic=T/partition=P/DATE/HOUR/FIRST/FIRST-NEXT.NAME.avro``: DATE (``YYYY-MM-DD``) and HOUR are append time, UTC; FIRST
and NEXT are offsets with 20 digits, so names sort as offsets do. A directory FIRST is one append. It holds a file for
every schema whose frames are among the offsets FIRST to NEXT, and comes into being complete, by one rename.

Invariants: the hours of a partition's appends never go back; the directory after one whose files say NEXT is called NEXT. So the
name of the next append is known to every writer, and only one of them can make it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from schemas.topics import check_topic

DEAD_LETTERS: Final = "dead-letters"
LOST: Final = "lost"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FILE: Final = re.compile(r"(\d{20})-(\d{20})\.([A-Za-z0-9_-]+(?:\.[0-9a-f]{16})?)\.avro")
_DIGITS: Final = re.compile(r"\d{20}")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_HOUR: Final = re.compile(r"\d\d")


@dataclass(frozen=True, slots=True, order=True)
class Append:
    """One append: the directory ``path``, and the offsets its files' names say."""

    first: int
    next: int
    path: Path

    @property
    def hour(self) -> Path:
        return self.path.parent


def partition_path(root: Path, topic: str, partition: int) -> Path:
    """Raises `ConfigurationError` for a name that is no topic's."""
    return root / "journal" / f"topic={check_topic(topic)}" / f"partition={partition}"


def hour_path(partition: Path, append_time: int, last: Append | None) -> Path:
    """Where an append goes whose first record has ``append_time`` (µs since 1970, UTC), after the append ``last``."""
    at = _EPOCH + timedelta(microseconds=append_time)
    hour = partition / f"{at:%Y-%m-%d}" / f"{at:%H}"
    # A broker's clock may be set back.
    return hour if last is None else max(hour, last.hour)


def append_name(first: int) -> str:
    return f"{first:020d}"


def file_name(first: int, following: int, name: str) -> str:
    return f"{first:020d}-{following:020d}.{name}.avro"


def kind_of(path: Path) -> str:
    """What a file's name says it holds: a schema's name and fingerprint, `DEAD_LETTERS` or `LOST`."""
    match = _FILE.fullmatch(path.name)
    return match[3] if match else ""


def partitions(root: Path) -> list[tuple[str, int]]:
    """Topics and partitions there are directories of, sorted."""
    found = [
        (topic.name.removeprefix("topic="), int(partition.name.removeprefix("partition=")))
        for topic in _children(root / "journal", re.compile(r"topic=.+"))
        for partition in _children(topic, re.compile(r"partition=\d+"))
    ]
    return sorted(found)


def last_append(partition: Path) -> Append | None:
    """The newest append, by listing as little as possible; None when there is none."""
    for date in reversed(_children(partition, _DATE)):
        for hour in reversed(_children(date, _HOUR)):
            if appends := _children(hour, _DIGITS):
                return _append(appends[-1])
    return None


def appends(partition: Path, start: int) -> list[Append]:
    """The appends that hold offsets from ``start`` on, in order."""
    paths = [path for date in _children(partition, _DATE) for hour in _children(date, _HOUR) for path in _children(hour, _DIGITS)]
    # The one before the first that begins behind `start` may hold it.
    keep = next((place for place, path in enumerate(paths) if int(path.name) > start), len(paths))
    return [found for found in map(_append, paths[max(keep - 1, 0) :]) if found.next > start]


def _append(path: Path) -> Append:
    for file in path.iterdir():
        if match := _FILE.fullmatch(file.name):
            return Append(int(match[1]), int(match[2]), path)
    # Nothing of ours is empty: someone has removed the files. Its place in the order is still known.
    return Append(int(path.name), int(path.name), path)


def _children(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
