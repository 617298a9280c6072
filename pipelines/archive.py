"""The archive: a log's records into a journal, per partition, raw and complete (decision 002).

Where it goes on is in the names of what the journal keeps; nothing is held between calls. So a crash, a retry and a second
archiver of the same log neither lose nor double anything, and a store that fails holds up the archive alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration

from brokers import LogReader, OffsetExpired, Record
from brokers.backoff import Backoff
from pipelines.session import Session, session_of
from pipelines.sources.log import ENDLESS, Partition, UnsplitOffsets
from schemas.errors import IoTCloudError
from schemas.registry import EventSchema, Schemas
from storage import Journal, StoreError, open_journal
from storage.errors import Overtaken
from telemetry.logs import logger
from transforms.admit import wall_clock

#: Attempts of a drain to reach the store before it leaves the rest to the next run.
_LAST_ATTEMPTS: Final = 8
#: µs between looks at a partition that has nothing, and at most between looks at one that has.
_SHORTEST_LOOK: Final = 50_000
_LONGEST_LOOK: Final = 1_000_000


@dataclass(frozen=True)
class ArchiveLimits:
    """When records are appended to the journal: when so many wait, or the oldest has waited long enough."""

    bytes: int = 16_000_000
    records: int = 100_000
    #: µs since it was appended to the log.
    wait: int = 30_000_000


class Step(NamedTuple):
    """What one call came to: where the journal goes on, how many records it took, and whether the log holds no more for now."""

    next_offset: int
    taken: int
    #: µs until it is worth looking again; 0 when there is more to take at once.
    pause: int
    #: Everything that was in the log is in the journal.
    complete: bool
    #: What of the log is not in the journal has come since this call looked.
    up_to_date: bool = False


class _Read(NamedTuple):
    records: list[Record]
    #: They are all that the log held.
    all: bool
    #: The log has let go of them meanwhile.
    fleeting: bool


def archive_once(
    reader: LogReader, journal: Journal, topic: str, partition: int, limits: ArchiveLimits, *, now: int, flush: bool = False
) -> Step:
    """Append what is due of a partition, at most one append. ``now`` is µs since 1970, UTC; ``flush`` makes all due.

    Offsets the log no longer has are noted in the journal as lost. Raises `StoreError` and `BrokerError`.
    """
    position = journal.next_offset(topic, partition)
    if position is None:
        position = reader.begin_offset(topic, partition)
    try:
        records, all_, fleeting = _waiting(reader, topic, partition, position, limits)
        if not records:
            return Step(position, 0, _look(limits), complete=True, up_to_date=True)
        due_in = records[0].append_time + limits.wait - now
        full = len(records) >= limits.records or sum(len(record.value) for record in records) >= limits.bytes
        if due_in > 0 and not (flush or full or fleeting):
            return Step(position, 0, max(_SHORTEST_LOOK, min(due_in, _look(limits))), complete=False)
        following = journal.append(topic, partition, records, first=position)
        return Step(following, len(records), 0, complete=False, up_to_date=all_)
    except OffsetExpired as expired:
        logger("archive").error(
            "records expired unarchived", topic=topic, partition=partition, first=position, next=expired.begin
        )
        following = journal.append_lost(
            topic, partition, first=position, next_offset=expired.begin, time=now, reason="no longer in the log"
        )
        return Step(following, 0, 0, complete=False)
    except Overtaken as overtaken:
        return Step(overtaken.next_offset, 0, 0, complete=False)


def _waiting(reader: LogReader, topic: str, partition: int, position: int, limits: ArchiveLimits) -> _Read:
    """Records from ``position`` on, as many as one append takes."""
    records: list[Record] = []
    size = 0
    while len(records) < limits.records and size < limits.bytes:
        try:
            more = reader.read(
                topic, partition, position, max_records=limits.records - len(records), max_bytes=max(1, limits.bytes - size)
            )
        except OffsetExpired:
            if not records:
                raise
            # Nobody could read them another time.
            return _Read(records, all=False, fleeting=True)
        if not more:
            return _Read(records, all=True, fleeting=False)
        records += more
        size += sum(len(record.value) for record in more)
        position = more[-1].offset + 1
    return _Read(records, all=False, fleeting=False)


def _look(limits: ArchiveLimits) -> int:
    return max(_SHORTEST_LOOK, min(_LONGEST_LOOK, limits.wait // 10))


class ArchivePartition(beam.DoFn, RestrictionProvider):
    """Splittable: `Partition` in, nothing out. Ends when the session is closing and everything is in the journal."""

    def __init__(
        self,
        job: str,
        url: str,
        schemas: tuple[EventSchema, ...],
        limits: ArchiveLimits,
        *,
        until_end: bool = False,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._job = job
        self._url = url
        self._schemas = schemas
        self._limits = limits
        self._until_end = until_end
        self._clock = clock
        self._journal: Journal | None = None
        self._failing: dict[tuple[str, int], tuple[int, Backoff]] = {}

    def setup(self) -> None:
        self._journal = open_journal(self._url, Schemas(self._schemas))

    def teardown(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def initial_restriction(self, element: Partition) -> OffsetRange:  # noqa: ARG002
        return OffsetRange(0, ENDLESS)

    def create_tracker(self, restriction: OffsetRange) -> UnsplitOffsets:
        return UnsplitOffsets(restriction)

    def restriction_size(self, element: Partition, restriction: OffsetRange) -> int:  # noqa: ARG002
        return 1

    def truncate(self, element: Partition, restriction: OffsetRange) -> None:
        """Nothing is left to do when the runner drains the job: where to go on is in the journal."""

    @beam.DoFn.unbounded_per_element()
    def process(self, element: Partition, tracker: Any = beam.DoFn.RestrictionParam()) -> Iterator[bytes]:
        # The restriction counts calls, not offsets: those are in the journal's names.
        if not tracker.try_claim(tracker.current_restriction().start):
            return
        session = session_of(self._job)
        key = (element.topic, element.partition)
        closing = self._until_end or session.closing.is_set()
        stopping = session.stopping.is_set() and not closing
        if stopping and key not in session.unarchived:
            # What has come since is for the next life of the job: a busy log would never let this one end.
            tracker.defer_remainder(Duration(micros=_LONGEST_LOOK))
            return
        session.unarchived.add(key)
        flush = closing or stopping
        try:
            step = self._step(session, element, flush=flush)
        except IoTCloudError as error:
            pause = self._failed(session, element, error, closing=closing)
            if stopping or pause is None or pause > _LONGEST_LOOK:
                # A stop does not wait for it: the next life of the job goes on where the journal ends.
                session.unarchived.discard(key)
            if pause is None:
                tracker.try_claim(ENDLESS - 1)
            else:
                tracker.defer_remainder(Duration(micros=pause))
            return
        self._failing.pop(key, None)
        if (closing and step.complete) or (stopping and step.up_to_date):
            session.unarchived.discard(key)
        if closing and step.complete:
            tracker.try_claim(ENDLESS - 1)
        else:
            tracker.defer_remainder(Duration(micros=_SHORTEST_LOOK if flush and step.pause else step.pause))
        yield from ()

    def _step(self, session: Session, element: Partition, *, flush: bool) -> Step:
        assert self._journal is not None, "setup() was not called"
        with session.reader(element.url, element.topic, element.partition, base=element.base) as reader:
            step = archive_once(
                reader, self._journal, element.topic, element.partition, self._limits, now=self._clock(), flush=flush
            )
        if step.taken:
            session.counts.add("archived_records", step.taken, topic=element.topic)
        return step

    def _failed(self, session: Session, element: Partition, error: IoTCloudError, *, closing: bool) -> int | None:
        """µs until the next attempt; None when there should be none."""
        key = (element.topic, element.partition)
        attempts, backoff = self._failing.setdefault(key, (0, Backoff(first=0.2, longest=2.0 if closing else 30.0)))
        self._failing[key] = (attempts + 1, backoff)
        session.counts.add("archive_failures", topic=element.topic)
        kind = "store" if isinstance(error, StoreError) else "log"
        logger("archive").warning(
            "archiving failed",
            failing=kind,
            topic=element.topic,
            partition=element.partition,
            attempt=attempts + 1,
            error=str(error),
        )
        # Nothing is lost by giving up at the end: the next run goes on where the journal ends.
        if closing and attempts + 1 >= _LAST_ATTEMPTS:
            return None
        return round(backoff.next() * 1_000_000)


class ArchiveLog(beam.PTransform):
    """Partitions (what `pipelines.sources.discovery.FindPartitions` gives) in, nothing out: records go to the journal at ``url``.

    With ``until_end`` it ends when everything there is has been archived, otherwise when the session closes.
    """

    def __init__(
        self,
        job: str,
        url: str,
        schemas: tuple[EventSchema, ...],
        limits: ArchiveLimits | None = None,
        *,
        until_end: bool = False,
    ) -> None:
        super().__init__()
        self._archive = ArchivePartition(job, url, schemas, limits or ArchiveLimits(), until_end=until_end)

    def expand(self, partitions: Any) -> Any:
        return partitions | "Archive" >> beam.ParDo(self._archive).with_output_types(bytes)
