"""Finding partitions, also those that come into being while the job runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Duration, Timestamp

from brokers import BrokerUnavailable
from pipelines.session import Session, session_of
from pipelines.sources.log import ENDLESS, Partition, ReadPartition, ReadSettings, UnsplitOffsets

#: µs between looks for new partitions; between tellings of the watermark; and between these when nothing has come for a while.
_LOOK: Final = 1_000_000
_TELL: Final = 50_000
_TELL_QUIET: Final = 250_000
_A_WHILE: Final = 10_000_000


class Source(NamedTuple):
    """Topics of one broker; they need not exist yet."""

    url: str
    topics: tuple[str, ...]
    #: What its partitions are numbered from, where another broker has some of the topics too.
    base: int = 0


class FindPartitions(beam.DoFn, RestrictionProvider):
    """Splittable: `Source` in, every `Partition` of it once out.

    Its watermark is the least of the partitions known, so that a partition found later enters no earlier than the job has come.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings

    def initial_restriction(self, element: Source) -> OffsetRange:  # noqa: ARG002
        return OffsetRange(0, ENDLESS)

    def create_tracker(self, restriction: OffsetRange) -> UnsplitOffsets:
        return UnsplitOffsets(restriction)

    def restriction_size(self, element: Source, restriction: OffsetRange) -> int:  # noqa: ARG002
        return 1

    def truncate(self, element: Source, restriction: OffsetRange) -> None:
        """Nothing is left to do when the runner drains the job."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Source,
        tracker: Any = beam.DoFn.RestrictionParam(),
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterator[Partition]:
        session = session_of(self._settings.job)
        turn = tracker.current_restriction().start
        told = estimator.current_watermark()
        watermark = self._settings.begin if told is None else told.micros
        watermark = max(watermark, session.clocks.least())
        pause = _TELL if session.clocks.quiet_for() < _A_WHILE else _TELL_QUIET
        # A turn counts for `_TELL`; the next is a whole number of pauses, so that none with a look is passed over.
        following = (turn * _TELL // pause + 1) * pause // _TELL
        if not tracker.try_claim(following - 1):
            return
        ending = self._settings.until_end or session.closing.is_set()
        if turn % (_LOOK // _TELL) == 0 or ending:
            try:
                for partition in find(session, element, self._settings, watermark):
                    yield TimestampedValue(partition, Timestamp(micros=watermark))
            except BrokerUnavailable as error:
                # At the end of a bounded read nobody would look again: what is there must be found.
                tracker.defer_remainder(Duration(micros=round(session.away(element.url, error) * 1e6)))
                return
            session.reached(element.url)
            session.clocks.met(element)
        if ending:
            tracker.try_claim(ENDLESS - 1)
            estimator.set_watermark(MAX_TIMESTAMP)
            return
        if told is None or told.micros < watermark:
            estimator.set_watermark(Timestamp(micros=watermark))
        tracker.defer_remainder(Duration(micros=pause))


def find(session: Session, source: Source, settings: ReadSettings, watermark: int) -> Iterator[Partition]:
    """Partitions of ``source`` that the session did not know, each made known to it and given out at once: a broker that goes
    away meanwhile takes none back. Raises `BrokerError`.
    """
    for topic in source.topics:
        with session.reader(source.url, topic, -1, base=source.base) as reader:
            for partition in reader.partitions(topic):
                key = (topic, partition)
                if session.clocks.is_known(key):
                    continue
                first, end = reader.begin_offset(*key), reader.end_offset(*key)
                start = settings.starts.get(key, first)
                stop = max(start, end) if settings.until_end else ENDLESS
                session.clocks.add(key, watermark=settings.beginning(key, watermark), has_records=first < end)
                yield Partition(source.url, topic, partition, start, stop, source.base)


@dataclass
class Partitions(beam.PTransform):
    """Every `Partition` of ``sources``, also those that come into being later."""

    sources: tuple[Source, ...]
    settings: ReadSettings

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, pipeline: Any) -> Any:
        sources = pipeline | "Sources" >> beam.Create(list(self.sources), reshuffle=False)
        return sources | "Find" >> beam.ParDo(FindPartitions(self.settings))


@dataclass
class ReadLog(beam.PTransform):
    """Blocks of the frames of partitions, keyed by partition: ``(key, block as bytes)``."""

    settings: ReadSettings

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, partitions: Any) -> Any:
        return partitions | "Read" >> beam.ParDo(ReadPartition(self.settings)).with_output_types(tuple[str, bytes])
