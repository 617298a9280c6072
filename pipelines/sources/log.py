"""A broker's log as a Beam source: one restriction per partition, blocks of frames out.

Every block has as its timestamp the watermark that its source had told the runner before it (decision 003), so nothing
enters late, whatever the events say; `transforms.admit` tells late events from their own times. Watermarks are manual.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Duration, Timestamp

from brokers import BrokerError, BrokerUnavailable, LogReader, OffsetExpired, Record
from pipelines.session import Session, session_of
from pipelines.sources.clock import BEFORE_ALL, newest_event_time
from telemetry.logs import logger
from transforms.admit import partition_key, wall_clock
from transforms.block import block_of, encode_block, quiet_block

ENDLESS: Final = sys.maxsize
#: Most µs between looks at a quiet partition, and how much of the time that it has been quiet one more look may take.
_LONGEST_POLL: Final = 250_000
_PATIENCE: Final = 50


class Partition(NamedTuple):
    """One partition to read, from the offset ``start`` to ``stop`` (exclusive). Its number counts from ``base`` on."""

    url: str
    topic: str
    partition: int
    start: int
    stop: int = ENDLESS
    base: int = 0


@dataclass(frozen=True)
class ReadSettings:
    """How logs are read."""

    #: Id of the job, by which its parts find their `Session`.
    job: str
    #: Bound on the disorder of event times within a partition, µs.
    disorder: int = 10_000_000
    #: How far, in µs, event times may be ahead of the clock.
    future_bound: int = 300_000_000
    #: µs since 1970, UTC, where watermarks begin: the floor of a job that is resumed.
    floor: int = BEFORE_ALL
    #: First offsets of partitions that were read before.
    starts: Mapping[tuple[str, int], int] = field(default_factory=dict)
    #: Where watermarks of partitions begin that were read before.
    watermarks: Mapping[tuple[str, int], int] = field(default_factory=dict)
    #: Stop at the end that a partition has when it is first looked at.
    until_end: bool = False
    #: µs between looks at a partition that has been read to its end; it grows while nothing comes.
    poll: int = 20_000
    block_bytes: int = 1_100_000
    block_records: int = 50_000
    #: Blocks after which a bundle ends.
    bundle_blocks: int = 8
    #: Seconds after which a bundle ends.
    bundle_seconds: float = 0.5
    #: Consumer group under which positions are shown; empty for none.
    group: str = ""
    clock: Callable[[], int] = wall_clock

    @property
    def begin(self) -> int:
        """The least watermark that any partition begins with, µs since 1970, UTC."""
        return min([self.floor, *self.watermarks.values()])

    def beginning(self, key: tuple[str, int], otherwise: int) -> int:
        """Where the watermark of a partition begins; ``otherwise`` if it was never read before."""
        return self.watermarks.get(key, otherwise)


class UnsplitOffsets(OffsetRestrictionTracker):
    """An offset range that only its own process() ends: a partition is read by one at a time."""

    def try_split(self, fraction_of_remainder: float) -> Any:
        return super().try_split(fraction_of_remainder) if fraction_of_remainder == 0 else None

    def is_bounded(self) -> bool:
        return bool(self._range.stop != ENDLESS)


class ReadPartition(beam.DoFn, RestrictionProvider):
    """Splittable: `Partition` in, ``(partition key, block as bytes)`` out."""

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings

    def initial_restriction(self, element: Partition) -> OffsetRange:
        return OffsetRange(element.start, element.stop)

    def create_tracker(self, restriction: OffsetRange) -> UnsplitOffsets:
        return UnsplitOffsets(restriction)

    def restriction_size(self, element: Partition, restriction: OffsetRange) -> int:  # noqa: ARG002
        return 1 if restriction.stop == ENDLESS else int(restriction.size())

    def truncate(self, element: Partition, restriction: OffsetRange) -> None:
        """Nothing is left to do when the runner drains the job."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Partition,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = beam.DoFn.RestrictionParam(),
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterator[tuple[str, bytes]]:
        session = session_of(self._settings.job)
        told = estimator.current_watermark()
        key = (element.topic, element.partition)
        floor = self._settings.beginning(key, self._settings.floor) if told is None else told.micros
        position: int | None = None
        try:
            with session.reader(element.url, *key, base=element.base) as reader:
                if not session.clocks.is_known(key):
                    has_records = reader.begin_offset(*key) < reader.end_offset(*key)
                    session.clocks.add(key, watermark=floor, has_records=has_records)
                pull = _Pull(self._settings, session, element, reader, tracker, estimator)
                for block in pull.blocks():
                    yield block
                    position = pull.position
        except BrokerUnavailable as error:
            pause = session.away(element.url, error)
            tracker.defer_remainder(Duration(micros=round(pause * 1e6)))
        else:
            session.reached(element.url)
        # Prism asks every bundle of this step to finalize, also one that has nothing to commit.
        finalizer.register(_commit(self._settings, element, position))


class _Pull:
    """One bundle's reading of one partition."""

    def __init__(
        self, settings: ReadSettings, session: Session, element: Partition, reader: LogReader, tracker: Any, estimator: Any
    ) -> None:
        self._settings = settings
        self._session = session
        self._key = (element.topic, element.partition)
        self._reader = reader
        self._tracker = tracker
        self._estimator = estimator
        restriction = tracker.current_restriction()
        self.position: int = restriction.start
        self._stop: int = restriction.stop
        self.sent = 0

    def blocks(self) -> Iterator[Any]:  # noqa: PLR0911  (each way a bundle ends stands on its own)
        until = time.monotonic() + self._settings.bundle_seconds
        while True:
            if self.position >= self._stop:
                yield self._quiet()
                self._finish()
                return
            if self._session.stopping.is_set():
                # What was read before has its say: windows it completes are written.
                self._tell()
                self._pause(200_000)
                return
            granted = self._session.credit.take(self._settings.block_bytes)
            if not granted:
                self._pause(10_000)
                return
            try:
                records = self._read(granted)
            except BrokerUnavailable:
                self._session.credit.settle(granted, 0)
                raise
            if not records:
                self._session.credit.settle(granted, 0)
                if self._session.closing.is_set() and self._stop == ENDLESS:
                    yield self._quiet()
                    self._finish()
                    return
                self._session.clocks.quiet(self._key, disorder=self._settings.disorder)
                if self._session.clocks.falls_quiet(self._key, disorder=self._settings.disorder):
                    yield self._quiet()
                self._tell()
                quiet = self._session.clocks.quiet_for(self._key)
                self._pause(max(self._settings.poll, min(_LONGEST_POLL, quiet // _PATIENCE)))
                return
            if not self._tracker.try_claim(records[-1].offset):
                self._session.credit.settle(granted, 0)
                return
            yield self._block(records, granted)
            full = self.sent >= self._settings.bundle_blocks or time.monotonic() > until
            if full and self.position < self._stop:
                self._pause(0)
                return

    def _read(self, granted: int) -> list[Record]:
        topic, partition = self._key
        try:
            records = self._reader.read(
                topic, partition, self.position, max_records=self._settings.block_records, max_bytes=granted
            )
        except OffsetExpired as error:
            lost = error.begin - self.position
            logger("source").warning("records expired unread", topic=topic, partition=partition, offsets=lost)
            self._session.counts.add("expired_offsets", lost, topic=topic)
            records = self._reader.read(
                topic, partition, error.begin, max_records=self._settings.block_records, max_bytes=granted
            )
        return [record for record in records if record.offset < self._stop] if self._stop != ENDLESS else list(records)

    def _block(self, records: list[Record], granted: int) -> TimestampedValue:
        topic, partition = self._key
        clocks = self._session.clocks
        watermark = clocks.begin(self._key)
        block = block_of(topic, partition, records, watermark=watermark)
        self._session.credit.settle(granted, len(block.data))
        limit = self._settings.clock() + self._settings.future_bound
        newest = newest_event_time([record.value for record in records], limit=limit)
        clocks.read(self._key, newest, disorder=self._settings.disorder)
        self._tell()
        self.position = block.next_offset
        self.sent += 1
        return TimestampedValue((partition_key(topic, partition), encode_block(block)), Timestamp(micros=watermark))

    def _quiet(self) -> TimestampedValue:
        topic, partition = self._key
        watermark = self._session.clocks.begin(self._key)
        block = quiet_block(topic, partition, self.position, watermark=watermark)
        return TimestampedValue((partition_key(topic, partition), encode_block(block)), Timestamp(micros=watermark))

    def _tell(self) -> None:
        # The least of all partitions, not this one's own: Prism takes for the whole step what its last bundle told.
        watermark = self._session.clocks.least()
        told = self._estimator.current_watermark()
        if told is None or told.micros < watermark:
            self._estimator.set_watermark(Timestamp(micros=watermark))

    def _pause(self, micros: int) -> None:
        self._tracker.defer_remainder(Duration(micros=micros))

    def _finish(self) -> None:
        """Nothing more will come: windows may close."""
        if self.position < self._stop:
            self._tracker.try_claim(self._stop - 1)
        self._session.clocks.finish(self._key)
        self._estimator.set_watermark(MAX_TIMESTAMP)


def _commit(settings: ReadSettings, element: Partition, offset: int | None) -> Callable[[], None]:
    def commit() -> None:
        if offset is None or not settings.group:
            return
        try:
            with session_of(settings.job).reader(element.url, element.topic, element.partition, base=element.base) as reader:
                reader.commit(settings.group, element.topic, element.partition, offset)
        except BrokerError as error:
            # For the broker's own tools only: nothing relies on it.
            logger("source").debug("position not shown", topic=element.topic, partition=element.partition, why=error.message)

    return commit
