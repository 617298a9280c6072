"""Topics that several brokers have: a channel was moved from one to the other, and both are read.

A job knows a partition by its topic and number: in its state, in the names of archive files. The partitions of a topic are
therefore numbered through all of its brokers, in the order in which the job came to know them, from a base for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from brokers import LogReader, Record
from pipelines.whole_file import write_whole

#: Between the bases of two brokers: more partitions than a topic has.
SPAN: Final = 1_000_000
MEMORY_FILE: Final = "brokers.json"


def numbered_from(base: int, reader: LogReader) -> LogReader:
    """``reader`` with its partitions numbered from ``base`` on."""
    return _Numbered(base, reader) if base else reader


class _Numbered:
    def __init__(self, base: int, reader: LogReader) -> None:
        self._base = base
        self._reader = reader

    def partitions(self, topic: str) -> Sequence[int]:
        return [self._base + partition for partition in self._reader.partitions(topic)]

    def begin_offset(self, topic: str, partition: int) -> int:
        return self._reader.begin_offset(topic, partition - self._base)

    def end_offset(self, topic: str, partition: int) -> int:
        return self._reader.end_offset(topic, partition - self._base)

    def offset_for_time(self, topic: str, partition: int, time: int) -> int:
        return self._reader.offset_for_time(topic, partition - self._base, time)

    def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int, timeout: float = 0.0
    ) -> Sequence[Record]:
        return self._reader.read(
            topic, partition - self._base, offset, max_records=max_records, max_bytes=max_bytes, timeout=timeout
        )

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._reader.commit(group, topic, partition - self._base, offset)

    def close(self) -> None:
        self._reader.close()


class Origins:
    """Which brokers have had each topic, in the order they became known; kept in the job's directory, if it has one."""

    def __init__(self, directory: Path | None) -> None:
        self._file = directory / MEMORY_FILE if directory is not None else None
        self._topics: dict[str, list[str]] = {}
        if self._file is not None and self._file.exists():
            self._topics = msgspec.json.decode(self._file.read_bytes(), type=dict[str, list[str]])

    def bases(self, url: str, topics: Sequence[str]) -> dict[int, tuple[str, ...]]:
        """The topics of a broker by the base that its partitions of them are numbered from."""
        # Options say how to connect, not where.
        place = url.partition("?")[0]
        found: defaultdict[int, list[str]] = defaultdict(list)
        for topic in topics:
            known = self._topics.setdefault(topic, [])
            if place not in known:
                known.append(place)
            found[known.index(place) * SPAN].append(topic)
        return {base: tuple(names) for base, names in found.items()}

    def store(self) -> None:
        """Keep what is known. Nothing to do without a directory."""
        if self._file is None:
            return
        write_whole(self._file, msgspec.json.encode(self._topics))
