"""What was fetched of one partition and not yet read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from brokers.contract import Record
from brokers.kafka.batches import Batch, decode_batches, offset_after
from brokers.kafka.failures import Trouble
from brokers.positions import Place


class Shelf:
    """For a reader whose next offset is ``offset``; made anew when it reads elsewhere."""

    def __init__(self, place: Place, offset: int) -> None:
        self.place = place
        #: What the reader will ask for, and what is to be fetched next: holes lie between.
        self.next = offset
        self.fetch_from = offset
        #: The fetch on its way, if any.
        self.fetch: Any = None
        #: Why the last one failed; raised when the partition is read.
        self.trouble: Trouble | None = None
        #: Whether the server has more than was fetched.
        self.more = True
        #: When (`time.monotonic`) the server said that there was nothing; 0 when that was used.
        self.empty_at = 0.0
        self.read_at = 0.0
        #: Bytes held, undecoded.
        self.held = 0
        self._answers: deque[bytes] = deque()
        self._batches: Iterator[Batch] = iter(())
        self._decoded: list[Record] = []
        self._taken = 0

    @property
    def wants(self) -> bool:
        """Whether it is time to fetch: at most the answer that is being read is left."""
        return not self._answers and self.fetch is None and self.trouble is None

    def put(self, data: bytes, *, end: int, now: float) -> None:
        """An answer to a fetch from `fetch_from`; ``end`` is the offset at which the partition ended."""
        after = offset_after(data)
        if after is None:
            self.empty_at = now
        else:
            self._answers.append(data)
            self.held += len(data)
            self.fetch_from = max(self.fetch_from, after)
        self.more = end > self.fetch_from

    def take(self, max_records: int, max_bytes: int) -> tuple[list[Record], Sequence[Batch]]:
        """Records in order, at least one when there is one; and the batches that were opened for them. Raises `Trouble`."""
        found: list[Record] = []
        opened: list[Batch] = []
        room = max_bytes
        while len(found) < max_records:
            if self._taken == len(self._decoded):
                batch = self._open_next()
                if batch is None:
                    break
                opened.append(batch)
                self._decoded, self._taken = batch.records, 0
                continue
            more = self._decoded[self._taken : self._taken + max_records - len(found)]
            for count, record in enumerate(more):
                room -= len(record.value) + len(record.key)
                if room < 0 and (found or count):
                    del more[count:]
                    break
            found += more
            self._taken += len(more)
            if room < 0:
                break
        if found:
            self.next = found[-1].offset + 1
        return found, opened

    def _open_next(self) -> Batch | None:
        while True:
            batch = next(self._batches, None)
            if batch is not None:
                return batch
            if not self._answers:
                self.held = 0
                return None
            data = self._answers.popleft()
            self.held = len(data) + sum(map(len, self._answers))
            self._batches = decode_batches(data, self.next)
