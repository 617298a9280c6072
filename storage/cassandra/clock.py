"""Timestamps of writes, of which the later stands, whichever machine's clock goes wrong."""

from __future__ import annotations

import threading
import time
from typing import Final
from uuid import UUID

#: Between 1582, where the times in UUIDs begin, and 1970, in their units of 100 ns.
_UUID_EPOCH: Final = 0x01B21DD213814000
_STALE_SECONDS: Final = 60.0


class ServersClock:
    """µs since 1970 by the cluster's clock, each greater than all before.

    Cassandra keeps the write with the greater timestamp. By our own clock, a job that is started again on a machine whose clock
    is behind would correct rows in vain. By the clock of the server that takes it, a request long held up in a network
    would undo what was written after it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead = 0
        self._read_at = float("-inf")
        self._last = 0

    @property
    def stale(self) -> bool:
        """Whether it should be `set` again: clocks drift apart."""
        return time.monotonic() - self._read_at > _STALE_SECONDS

    def set(self, now: UUID, *, asked_at: float) -> None:
        """``now`` is what a server's ``now()`` gave when it was asked at ``asked_at``, by `time.monotonic`."""
        answered_at = time.monotonic()
        with self._lock:
            self._ahead = (now.time - _UUID_EPOCH) // 10 - round((asked_at + answered_at) / 2 * 1e6)
            self._read_at = answered_at

    def __call__(self) -> int:
        with self._lock:
            # Steps of two: the moment before is for deleting what a row replaces.
            self._last = max(self._last + 2, round(time.monotonic() * 1e6) + self._ahead)
            return self._last
