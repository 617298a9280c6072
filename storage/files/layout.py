"""Where things lie below the root, and what their names say.

``journal/topic=T/partition=P/DATE/HOUR/FIRST/FIRST-NEXT.NAME.avro``: DATE (``YYYY-MM-DD``) and HOUR are append time, UTC; FIRST
and NEXT are offsets with 20 digits, so names sort as offsets do. A directory FIRST is one append. It holds a file for
every schema whose frames are among the offsets FIRST to NEXT, and comes into being complete, by one rename.

Invariants: the hours of a partition's appends never go back; the directory after one whose files say NEXT is called NEXT.
Names that begin with a dot are for writers (`storage.files.committing`); readers pass them over.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.topics import check_topic
from storage.files.filesystem import FileSystem

DEAD_LETTERS: Final = "dead-letters"
LOST: Final = "lost"
_ROOT: Final = "journal"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FILE: Final = re.compile(r"(\d{20})-(\d{20})\.([A-Za-z0-9_-]+(?:\.[0-9a-f]{16})?)\.avro")
_DIGITS: Final = re.compile(r"\d{20}")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_HOUR: Final = re.compile(r"\d\d")
_TOPIC: Final = re.compile(r"topic=(.+)")
_PARTITION: Final = re.compile(r"partition=(\d+)")


@dataclass(frozen=True, slots=True, order=True)
class Append:
    """One append: the offsets its files' names say, its directory, and the names of its files."""

    first: int
    next: int
    path: str
    files: tuple[str, ...] = ()

    @property
    def hour(self) -> str:
        """Its directory's, such as ``2026-11-23/10``."""
        return "/".join(self.path.split("/")[-3:-1])


def partition_path(topic: str, partition: int) -> str:
    """Raises `ConfigurationError` for a name that is no topic's."""
    return f"{_ROOT}/topic={check_topic(topic)}/partition={partition}"


def hour_of(append_time: int) -> str:
    """The hour of an append whose first record has ``append_time`` (µs since 1970, UTC), such as ``2026-11-23/10``."""
    return f"{_EPOCH + timedelta(microseconds=append_time):%Y-%m-%d/%H}"


def append_path(partition: str, hour: str, last: Append | None, first: int) -> str:
    """Where an append goes that begins at ``hour``, after the append ``last``."""
    # A broker's clock may be set back.
    return f"{partition}/{hour if last is None else max(hour, last.hour)}/{first:020d}"


def file_name(first: int, following: int, name: str) -> str:
    return f"{first:020d}-{following:020d}.{name}.avro"


def kind_of(name: str) -> str:
    """What a file's name says it holds: a schema's name and fingerprint, `DEAD_LETTERS` or `LOST`; empty for other files."""
    match = _FILE.fullmatch(name)
    return match[3] if match else ""


def partitions(files: FileSystem) -> list[tuple[str, int]]:
    """Topics and partitions there are directories of, sorted."""
    found = [
        (_TOPIC.sub(r"\1", topic), int(_PARTITION.sub(r"\1", partition)))
        for topic in _children(files, _ROOT, _TOPIC)
        for partition in _children(files, f"{_ROOT}/{topic}", _PARTITION)
    ]
    return sorted(found)


def last_append(files: FileSystem, partition: str) -> Append | None:
    """The newest append, by listing as little as possible; None when there is none."""
    for date in reversed(_children(files, partition, _DATE)):
        for hour in reversed(_children(files, f"{partition}/{date}", _HOUR)):
            if found := _children(files, f"{partition}/{date}/{hour}", _DIGITS):
                return append_at(files, f"{partition}/{date}/{hour}/{found[-1]}")
    return None


def appends(files: FileSystem, partition: str, start: int, end: int | None = None) -> Iterator[Append]:
    """The appends that hold offsets from ``start`` to ``end`` (exclusive), in order, by listing few hours beside theirs."""
    hours = [
        f"{partition}/{date}/{hour}"
        for date in _children(files, partition, _DATE)
        for hour in _children(files, f"{partition}/{date}", _HOUR)
    ]

    def begins(place: int) -> int:
        for hour in hours[place:]:
            if names := _children(files, hour, _DIGITS):
                return int(names[0])
        return sys.maxsize

    place = max(bisect_right(range(len(hours)), start, key=begins) - 1, 0)
    for hour in hours[place:]:
        names = _children(files, hour, _DIGITS)
        # The last one that begins at or before `start` may hold it.
        for name in names[max(bisect_right(names, f"{start:020d}") - 1, 0) :]:
            if end is not None and int(name) >= end:
                return
            append = append_at(files, f"{hour}/{name}")
            if append.next > start:
                yield append


def append_at(files: FileSystem, path: str) -> Append:
    """The append in a directory, by the names of its files."""
    names = tuple(name for name in files.names(path) if _FILE.fullmatch(name))
    for name in names:
        if match := _FILE.fullmatch(name):
            return Append(int(match[1]), int(match[2]), path, names)
    # Nothing of ours is empty: someone has removed the files. Its place in the order is still known.
    first = int(path[-20:]) if _DIGITS.fullmatch(path[-20:]) else -1
    return Append(first, first, path)


def _children(files: FileSystem, folder: str, pattern: re.Pattern[str]) -> list[str]:
    return [name for name in files.names(folder) if pattern.fullmatch(name)]
