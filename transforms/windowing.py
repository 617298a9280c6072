"""Windowed aggregates as Beam transforms.

Windows are a stateful step in the global window, keyed ``name|start|shard``, with the partial aggregates as state and two
event-time timers: at the window's end (emit) and at end + lateness (flush, forget). It is the same on every runner;
Beam's own late panes are faulty in Prism. Elements come with the source's watermark as their timestamp, so "late" can
be told from it: the step's own watermark is never beyond an element that it is given.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms.admit import BEFORE_ALL, Admitted, PartitionKey, wall_clock
from transforms.aggregates import LATE, ON_TIME, SERIES, merge, pack, rows, unpack
from transforms.few import FewPartials
from transforms.partials import partials_of
from transforms.session_windowing import SessionAggregates, pack_arriving
from transforms.windows import WindowSpec

PARTIALS: Final = "partials"
SESSIONS: Final = "sessions"
CORRECTIONS: Final = "corrections"
_NEW: Final = b"n"
_GIVEN: Final = b"g"


class Correction(NamedTuple):
    """A window, or a period of sessions, below the floor that must be computed again from the log.

    ``start`` in µs since 1970, UTC.
    """

    window: str
    start: int


#: Told of events that a window has missed: its name, and how many. It is pickled with the pipeline.
CountMissed = Callable[[str, int], None]


@dataclass(frozen=True)
class Resumption:
    """What a job that starts in the middle leaves alone."""

    #: Windows that start before it, in µs since 1970, UTC, are not touched by what is read.
    floor: int = BEFORE_ALL
    #: By partition: the offset up to which everything had gone through to the sinks.
    done: Mapping[PartitionKey, int] | None = None


class AssignWindows(beam.DoFn):
    """`Admitted` in; ``(key, partial as bytes)`` out under `PARTIALS` and `SESSIONS`, and `Correction` under `CORRECTIONS`.

    ``missed`` is told of events that come too late for a window though not for all: its name, and how many.
    """

    def __init__(
        self,
        windows: tuple[WindowSpec, ...],
        *,
        shards: int = 1,
        resumption: Resumption | None = None,
        missed: CountMissed | None = None,
    ) -> None:
        self._windows = windows
        self._shards = shards
        self._resumption = resumption or Resumption()
        self._missed = missed

    def process(self, element: Admitted) -> Iterator[Any]:
        floor = self._resumption.floor
        done = element.next_offset <= (self._resumption.done or {}).get((element.topic, element.partition), -1)
        closed: set[WindowSpec] = set()
        for window, start, partial in partials_of(element.columns, self._windows):
            if start + window.size + window.allowed_lateness <= element.watermark:
                closed.add(window)
                continue
            if start < floor:
                if not done:
                    yield beam.pvalue.TaggedOutput(CORRECTIONS, Correction(window.name, start))
                continue
            for shard, part in _sharded(partial, self._shards):
                key = f"{window.name}|{start}|{shard}"
                if window.gap:
                    yield beam.pvalue.TaggedOutput(SESSIONS, (key, pack_arriving(part, window, start, element.watermark)))
                else:
                    yield key, pack(part)
        if self._missed is not None and not done:
            for window in closed:
                self._missed(window.name, _events_missed(element, window))


class WindowAggregates(beam.DoFn):
    """Stateful: partials by key in, data frames of whole result rows (`transforms.aggregates.row_types`) out."""

    #: Partials; each begins with whether its events have been in a row that was given out.
    STORED = BagStateSpec("partials", BytesCoder())
    END = TimerSpec("end", TimeDomain.WATERMARK)
    CLEAR = TimerSpec("clear", TimeDomain.WATERMARK)

    def __init__(self, windows: tuple[WindowSpec, ...], *, clock: Callable[[], int] = wall_clock) -> None:
        self._windows = {window.name: window for window in windows}
        self._clock = clock
        self._few = FewPartials()

    def process(
        self,
        element: tuple[str, bytes],
        time: Timestamp = beam.DoFn.TimestampParam,
        stored: Any = beam.DoFn.StateParam(STORED),
        end: Any = beam.DoFn.TimerParam(END),
        clear: Any = beam.DoFn.TimerParam(CLEAR),
    ) -> Iterator[pl.DataFrame]:
        key, partial = element
        window, start = self._window(key)
        closes = start + window.size
        if time.micros < closes:
            self._few.put(key, stored, _NEW + partial, lambda parts: self._fewer(key, parts))
            # Also without lateness: Beam's runner in memory may overlook a timer family that is used alone.
            end.set(Timestamp(micros=closes))
            clear.set(Timestamp(micros=closes + window.allowed_lateness))
            return
        before = list(stored.read())
        stored.add(_NEW + partial)
        if not before:
            # The first of its window, and late. The timer holds the watermark where this element has it.
            end.set(time)
            clear.set(Timestamp(micros=closes + window.allowed_lateness))
        elif _given(before):
            yield self._emit(key, [*before, _NEW + partial], stored, LATE)

    @on_timer(END)
    def on_end(
        self,
        key: str = beam.DoFn.KeyParam,
        time: Timestamp = beam.DoFn.TimestampParam,
        stored: Any = beam.DoFn.StateParam(STORED),
    ) -> Iterator[pl.DataFrame]:
        parts = list(stored.read())
        if _waiting(parts):
            window, start = self._window(key)
            yield self._emit(key, parts, stored, ON_TIME if time.micros <= start + window.size else LATE)

    @on_timer(CLEAR)
    def on_clear(self, key: str = beam.DoFn.KeyParam, stored: Any = beam.DoFn.StateParam(STORED)) -> Iterator[pl.DataFrame]:
        parts = list(stored.read())
        # Some runners fire this timer before the other.
        if _waiting(parts):
            yield self._rows(key, self._merged(key, parts), LATE if _given(parts) else ON_TIME)
        stored.clear()
        self._few.forget(key)

    def _emit(self, key: str, parts: Sequence[bytes], stored: Any, pane: str) -> pl.DataFrame:
        merged = self._merged(key, parts)
        stored.clear()
        stored.add(_GIVEN + pack(merged))
        self._few.forget(key)
        return self._rows(key, merged, pane)

    def _merged(self, key: str, parts: Sequence[bytes]) -> pl.DataFrame:
        return merge([unpack(part[1:]) for part in parts], self._window(key)[0].measures)

    def _rows(self, key: str, merged: pl.DataFrame, pane: str) -> pl.DataFrame:
        window, start = self._window(key)
        return rows(merged, window, start, pane=pane, updated_at=self._clock())

    def _fewer(self, key: str, parts: Sequence[bytes]) -> Iterator[bytes]:
        for kind in (_GIVEN, _NEW):
            same = [part for part in parts if part[:1] == kind]
            if same:
                yield kind + pack(self._merged(key, same))

    def _window(self, key: str) -> tuple[WindowSpec, int]:
        name, start, _ = key.rsplit("|", 2)
        return self._windows[name], int(start)


class AggregateInWindows(beam.PTransform):
    """`Admitted` to result rows. Gives a dict: "rows" and "sessions", data frames of whole rows, and "corrections".

    Of the first two only what there are windows for.
    """

    def __init__(
        self,
        windows: tuple[WindowSpec, ...],
        *,
        shards: int = 1,
        resumption: Resumption | None = None,
        clock: Callable[[], int] = wall_clock,
        bounded: bool = False,
        missed: CountMissed | None = None,
    ) -> None:
        """``bounded``: the input has an end, and rows may wait for it. ``missed``: see `AssignWindows`."""
        super().__init__()
        self._assign = AssignWindows(windows, shards=shards, resumption=resumption, missed=missed)
        on_grid = tuple(window for window in windows if not window.gap)
        sessions = tuple(window for window in windows if window.gap)
        self._aggregate = WindowAggregates(on_grid, clock=clock) if on_grid else None
        self._sessions = SessionAggregates(sessions, clock=clock, bounded=bounded) if sessions else None

    def expand(self, admitted: Any) -> dict[str, Any]:
        assigned = admitted | "Assign" >> beam.ParDo(self._assign).with_outputs(CORRECTIONS, SESSIONS, main=PARTIALS)
        found = {"corrections": assigned[CORRECTIONS]}
        if self._aggregate is not None:
            keyed = assigned[PARTIALS] | "Keys" >> beam.Map(_itself).with_output_types(tuple[str, bytes])
            found["rows"] = keyed | "Windows" >> beam.ParDo(self._aggregate)
        if self._sessions is not None:
            keyed = assigned[SESSIONS] | "SessionKeys" >> beam.Map(_itself).with_output_types(tuple[str, bytes])
            found["sessions"] = keyed | "Sessions" >> beam.ParDo(self._sessions)
        return found


def _events_missed(element: Admitted, window: WindowSpec) -> int:
    """How many events fall into some window of this kind that is closed for good: if any, the first that they fall into."""
    first = ((pl.col("event_time") - window.size).floordiv(window.every) + 1) * window.every
    missed = first + window.size + window.allowed_lateness <= element.watermark
    return int(element.columns.select(missed.sum()).item())


def shard_of(device: str, channel: str, shards: int) -> int:
    """The shard of a series: the same in every process and version."""
    return zlib.crc32(f"{device}\0{channel}".encode()) % shards


def _sharded(partial: pl.DataFrame, shards: int) -> Iterator[tuple[int, pl.DataFrame]]:
    if shards == 1:
        yield 0, partial
        return
    numbers = pl.Series(
        "shard", [shard_of(device, channel, shards) for device, channel in partial.select(SERIES).iter_rows()], pl.Int32
    )
    for shard in range(shards):
        part = partial.filter(numbers == shard)
        if len(part):
            yield shard, part


def _waiting(parts: Sequence[bytes]) -> bool:
    return any(part[:1] == _NEW for part in parts)


def _given(parts: Sequence[bytes]) -> bool:
    return any(part[:1] == _GIVEN for part in parts)


def _itself(element: tuple[str, bytes]) -> tuple[str, bytes]:
    return element
