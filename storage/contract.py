"""The contracts of stores: `Sink` for tables of results, `Journal` for raw frames. A package implements either or both.

The suites in `tests/storage/contract.py` and `tests/storage/journal_contract.py` hold every implementation to this page.
Methods are called from one thread at a time; several processes may write to the same store. Times are µs since 1970, UTC,
as integers; how a store keeps them is its own affair, which its README says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import polars as pl


class Sink(Protocol):
    """Tables of results (`storage.tables`), written so that writing the same rows again changes nothing."""

    @property
    def url(self) -> str:
        """The URL it was made from, without anything secret."""

    def write(self, table: str, rows: pl.DataFrame) -> None:
        """Put rows into a table by its key, all of them or none, and return when they are durable.

        Where a store has no transactions, which its README says, a write that failed may have been done in part until it is
        repeated.

        Columns are found by name; a column the table lacks is refused, a nullable one may be left out. Of several rows of one
        key the last counts. What is transient (a locked database, a lost connection) is tried again with jittered
        pauses up to the store's limit.

        Raises `StoreUnavailable`, of which `StoreFull` is one, and `StoreRefused`.
        """

    def check(self) -> None:
        """Whether rows could be written now, without writing any. Raises as `write`."""

    def close(self) -> None: ...


class JournalRecord(NamedTuple):
    """A record of a log, as `brokers.contract.Record` has it."""

    offset: int
    append_time: int
    key: str
    value: bytes


class Extent(NamedTuple):
    """What one append holds: offsets ``first`` to ``next`` (exclusive) of a partition."""

    first: int
    next: int


class Journal(Protocol):
    """Raw records of logs in their order, contiguous: every offset from the first one kept is in exactly one append."""

    @property
    def url(self) -> str: ...

    def partitions(self) -> Sequence[tuple[str, int]]:
        """The topics and partitions that something is kept of, sorted."""

    def next_offset(self, topic: str, partition: int) -> int | None:
        """The offset after the last one kept; None when nothing is."""

    def append(self, topic: str, partition: int, records: Sequence[tuple[int, int, str, bytes]], *, first: int) -> int:
        """Keep records (`JournalRecord`, at least one), all or none, and return the next offset when they are durable.

        ``first`` is the offset after the last one kept, or where a new journal begins; the records' offsets rise from
        there and need not be without holes. Frames that cannot be decoded are kept too, with the reason.

        Raises `Overtaken` when another writer has kept what follows ``first``, and as `Sink.write`.
        """

    def append_lost(self, topic: str, partition: int, *, first: int, next_offset: int, time: int, reason: str) -> int:
        """Keep that the log no longer had the offsets ``first`` to ``next_offset`` (exclusive). Raises as `append`."""

    def extents(self, topic: str, partition: int, *, start: int = 0) -> Iterator[Extent]:
        """The appends that hold offsets from ``start`` on, in order."""

    def read(self, topic: str, partition: int, *, start: int = 0, end: int | None = None) -> Iterator[JournalRecord]:
        """Records with offsets from ``start`` to ``end`` (exclusive), in order. Values are legal frames of the same events;
        only a foreign encoding in several array blocks comes back as one block. Keys are empty where the store keeps none.
        """

    def check(self) -> None:
        """Whether something could be appended now. Raises as `append`."""

    def close(self) -> None: ...
