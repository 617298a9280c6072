"""Reading partitions by offset."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from brokers.contract import Record
from brokers.errors import BrokerRefused, BrokerUnavailable, OffsetExpired
from brokers.local.failures import describe
from brokers.local.files import OpenPartitions
from brokers.local.groups import Groups
from brokers.local.layout import Layout
from brokers.local.partition import Partition

T = TypeVar("T")

#: Seconds an answer may take while other processes hold the file.
_PATIENCE: Final = 10.0
#: Seconds between looks for new records: it begins with the first and grows to the second.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.02


class LocalReader:
    """See `brokers.contract.LogReader`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._files = OpenPartitions(layout, self._closing)
        self._groups = Groups(layout)

    def partitions(self, topic: str) -> Sequence[int]:
        return range(self._layout.count(topic))

    def begin_offset(self, topic: str, partition: int) -> int:
        return self._ask(topic, partition, 0, lambda file, deadline: file.state(deadline=deadline).begin)

    def end_offset(self, topic: str, partition: int) -> int:
        return self._ask(topic, partition, 0, lambda file, deadline: file.state(deadline=deadline).next)

    def offset_for_time(self, topic: str, partition: int, time: int) -> int:
        return self._ask(topic, partition, 0, lambda file, deadline: file.first_at(time, deadline=deadline))

    def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int, timeout: float = 0.0
    ) -> Sequence[Record]:
        """See `brokers.contract.LogReader.read`. A record whose checksum fails comes with an empty value.

        Raises `BrokerRefused` for an offset beyond the end: the log is not the one the offset was taken from.
        """
        until = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        empty: list[Record] = []
        while not self._closing.is_set():
            records = self._ask(
                topic,
                partition,
                empty,
                lambda file, deadline: file.read(offset, max_records=max_records, max_bytes=max_bytes, deadline=deadline),
            )
            if records and records[0].offset == offset:
                return records
            self._check_offset(topic, partition, offset)
            if records:  # behind a hole, as saving what can be from a damaged file leaves one
                return records
            left = until - time.monotonic()
            if left <= 0:
                break
            self._closing.wait(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return empty

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        with self._lock:
            self._groups.commit(group, topic, partition, offset)

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._files.close()
            self._groups.close()

    def _check_offset(self, topic: str, partition: int, offset: int) -> None:
        where = f"{self._layout.url}: topic {topic!r}, partition {partition}: offset {offset}"
        state = self._ask(topic, partition, None, lambda file, deadline: file.state(deadline=deadline))
        begin, end = (state.begin, state.next) if state else (0, 0)
        if offset < begin:
            raise OffsetExpired(
                f"{where} is no longer kept, the first is {begin}",
                begin=begin,
                remedy="go on from there, and raise the retention of the log or the speed of its reader",
            )
        if offset > end:
            raise BrokerRefused(
                f"{where} is beyond the end, {end}: the log has been made anew since the offset was stored",
                remedy="remove the stored position of the reader",
            )

    def _ask(self, topic: str, partition: int, absent: T, question: Callable[[Partition, float], T]) -> T:
        """The answer of a partition, or ``absent`` while it does not exist."""
        with self._lock:
            if self._closing.is_set():
                raise BrokerUnavailable(f"{self._layout.url}: topic {topic!r}: the reader is closed")
            try:
                deadline = time.monotonic() + _PATIENCE
                file = self._files.get(topic, partition, deadline=deadline)
                return absent if file is None else question(file, deadline)
            except (sqlite3.Error, OSError) as error:
                self._files.forget(topic, partition)
                raise describe(self._layout, topic, partition, error) from error
