"""How far a job has come, seen from behind its sinks (decision 003)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms.admit import BEFORE_ALL
from transforms.windows import WindowSpec, longest

#: Timers pending at once; a slot is used again after as many granules.
_SLOTS: Final = 1_024


class Passed(NamedTuple):
    """Everything that entered before this watermark (µs since 1970, UTC) has gone through all sinks."""

    watermark: int


class Mark(NamedTuple):
    """A fact about a log: before ``offset`` no event is newer than ``mark``, and no block left the source after ``watermark``."""

    offset: int
    mark: int
    watermark: int


class WatermarkBehind(beam.PTransform):
    """Hands its input on, and adds `Passed` as its watermark advances. Flatten before it what is to be waited for.

    Watermarks are told in steps of ``granule`` µs, and only those that an element of the input has had as its timestamp.
    """

    def __init__(self, granule: int) -> None:
        super().__init__()
        self._granule = granule

    def expand(self, elements: Any) -> Any:
        slots = elements | "Slots" >> beam.ParDo(_Slot(self._granule)).with_output_types(tuple[str, Any])
        return slots | "Passed" >> beam.ParDo(_Passed(self._granule))


class _Slot(beam.DoFn):
    def __init__(self, granule: int) -> None:
        self._granule = granule

    def process(self, element: Any, time: Timestamp = beam.DoFn.TimestampParam) -> Iterator[tuple[str, Any]]:
        yield str(time.micros // self._granule % _SLOTS), element


class _Passed(beam.DoFn):
    TIMER = TimerSpec("passed", TimeDomain.WATERMARK)

    def __init__(self, granule: int) -> None:
        self._granule = granule

    def process(
        self,
        element: tuple[str, Any],
        time: Timestamp = beam.DoFn.TimestampParam,
        timer: Any = beam.DoFn.TimerParam(TIMER),
    ) -> Iterator[Any]:
        if time.micros > BEFORE_ALL + self._granule:
            timer.set(Timestamp(micros=time.micros // self._granule * self._granule))
        yield element[1]

    @on_timer(TIMER)
    def on_passed(self, time: Timestamp = beam.DoFn.TimestampParam) -> Iterator[Passed]:
        yield Passed(time.micros)


def granule_of(windows: Sequence[WindowSpec]) -> int:
    """Steps, in µs, in which a job with these windows tells how far it has come."""
    return max(100_000, min((window.step for window in windows), default=4_000_000) // 4)


def floor_of(watermark: int, windows: Sequence[WindowSpec]) -> int:
    """Windows that start before it were written by the time the job's watermark was ``watermark``."""
    return watermark - longest(windows)


def restart(marks: Iterable[Mark], floor: int) -> int | None:
    """First offset of a partition to read again so that no event from ``floor`` on is missed; None for the very first."""
    return max((mark.offset for mark in marks if mark.mark < floor), default=None)


def done(marks: Iterable[Mark], watermark: int) -> int | None:
    """Offset up to which all blocks had gone through the sinks at ``watermark``."""
    return max((mark.offset for mark in marks if mark.watermark < watermark), default=None)
