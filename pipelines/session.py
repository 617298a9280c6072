"""What the parts of a running job share within one process: its stop signal, its credit, its readers, what it has counted.

Beam pickles a job's functions and makes its own copies of them; they find the session by the job's id. With a runner whose
workers are other processes every process has a session of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from brokers import BrokerUnavailable, LogReader, connect
from brokers.backoff import Backoff
from brokers.contract import require_log
from pipelines.counts import Counts
from pipelines.sources.clock import PartitionClocks
from pipelines.sources.numbering import numbered_from
from telemetry.logs import logger

#: Where a session is not opened by the job itself, its worker is another process and the runner holds back the source.
_WORKER_CREDIT: Final = 1 << 40


class Credit:
    """Bytes that may be under way between the source and the decoder, for a runner without back-pressure keeps all it gets."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def take(self, most: int) -> int:
        """How much may be sent now, up to ``most`` bytes; all of it is taken. 0 when the rest is too little to be worth it."""
        with self._lock:
            free = self._limit - self._used
            granted = min(most, free) if free >= min(most, self._limit // 8) else 0
            self._used += granted
            return granted

    def settle(self, granted: int, sent: int) -> None:
        """Replace what was granted by what was sent, which may be more: a record is never cut."""
        with self._lock:
            self._used += sent - granted

    def give_back(self, sent: int) -> None:
        with self._lock:
            self._used -= sent


class Gauge:
    """A number that several threads raise and lower."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        return self._value

    def add(self, number: int) -> None:
        with self._lock:
            self._value += number


class Session:
    """See the module. All methods may be called from any thread."""

    def __init__(self, *, credit: int = 20_000_000) -> None:
        self.credit = Credit(credit)
        self.clocks = PartitionClocks()
        self.counts = Counts()
        #: Bundles that write rows, or may come to, and have not ended.
        self.writing = Gauge()
        #: Partitions whose archive is still to write what the log holds, should the job be stopped.
        self.unarchived: set[tuple[str, int]] = set()
        #: Sources stop where they are, and keep their watermark.
        self.stopping = threading.Event()
        #: Sources read to the end there is, then say that nothing more will come.
        self.closing = threading.Event()
        #: Brokers that cannot be reached now, with what they last said and how often it was tried.
        self._away: dict[str, tuple[str, Backoff]] = {}
        self._readers: dict[tuple[str, str, int], list[LogReader]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def reader(self, url: str, topic: str, partition: int, *, base: int = 0) -> Iterator[LogReader]:
        """A log reader nobody else uses meanwhile; usually the one that read this partition before.

        It numbers partitions from ``base`` on (`pipelines.sources.numbering`). Raises `ConfigurationError` for a queue.
        """
        with self._lock:
            kept = self._readers.get((url, topic, partition))
            reader = kept.pop() if kept else None
        if reader is None:
            reader = numbered_from(base, require_log(connect(url)))
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        with self._lock:
            kept = self._readers.setdefault((url, topic, partition), [])
            if not kept:
                kept.append(reader)
                return
        reader.close()

    def away(self, url: str, error: BrokerUnavailable) -> float:
        """A broker could not be reached. Returns seconds until it is worth another try."""
        with self._lock:
            before, backoff = self._away.get(url, ("", Backoff(first=0.2, longest=5.0)))
            self._away[url] = (error.message, backoff)
            pause = backoff.next()
        if not before:
            logger("source").warning("a broker is away", why=error.message, remedy=error.remedy)
        self.counts.add("broker_failures", 1)
        return pause

    def reached(self, url: str) -> None:
        """A broker could be reached."""
        if url in self._away:
            with self._lock:
                gone = self._away.pop(url, None)
            if gone:
                logger("source").info("a broker is back", before=gone[0])

    def unreachable(self) -> list[str]:
        """Why brokers cannot be reached now."""
        with self._lock:
            return [why for why, _ in self._away.values()]

    def close(self) -> None:
        """Let go of readers. The job must have ended."""
        with self._lock:
            readers = [reader for kept in self._readers.values() for reader in kept]
            self._readers.clear()
        for reader in readers:
            reader.close()


@lru_cache(maxsize=1)
def _sessions() -> dict[str, Session]:
    return {}


def open_session(job: str, *, credit: int) -> Session:
    """Begin the session of a job in this process, with ``credit`` bytes that may be under way."""
    return _sessions().setdefault(job, Session(credit=credit))


def session_of(job: str) -> Session:
    """The session of the job with this id in this process; made when first asked for, as workers of their own do."""
    return _sessions().get(job) or open_session(job, credit=_WORKER_CREDIT)


def close_session(job: str) -> None:
    """End a job's session."""
    session = _sessions().pop(job, None)
    if session is not None:
        session.close()
