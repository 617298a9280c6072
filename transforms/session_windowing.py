"""Sessions as a stateful step, keyed ``name|period|shard``, in the manner of `transforms.windowing`.

Sessions that may still grow and those that were given out are kept apart: what is on time can only touch the former. An
event-time timer looks at them from time to time, and another forgets them at the period's end + lateness.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import apache_beam as beam
import polars as pl
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms import sessions
from transforms.admit import wall_clock
from transforms.aggregates import pack, unpack
from transforms.few import FewPartials
from transforms.windows import WindowSpec

#: Of a partial: when it must be looked at, and whether it may touch what was given out. Of a period: the same of all of them.
_HEAD: Final = struct.Struct("<q?")


def pack_arriving(partial: pl.DataFrame, window: WindowSpec, period: int, watermark: int) -> bytes:
    """A partial of a period as bytes. ``watermark`` is the source's, of when it was read, µs since 1970, UTC."""
    flagged = sessions.arriving(partial, window, period, watermark)
    due = sessions.look_at(flagged, window, period, after=watermark - 1)
    late = bool((partial.get_column("start") < watermark).any())
    assert due is not None, "every session of it is new"
    return _HEAD.pack(due, late) + pack(flagged)


class SessionAggregates(beam.DoFn):
    """Stateful: partials by key (`pack_arriving`) in, data frames of whole rows (`transforms.sessions.session_types`) out."""

    OPEN = BagStateSpec("open", BytesCoder())
    GIVEN = BagStateSpec("given", BytesCoder())
    HEAD = ReadModifyWriteStateSpec("head", BytesCoder())
    LOOK = TimerSpec("look", TimeDomain.WATERMARK)
    CLEAR = TimerSpec("clear", TimeDomain.WATERMARK)

    def __init__(self, windows: tuple[WindowSpec, ...], *, clock: Callable[[], int] = wall_clock, bounded: bool = False) -> None:
        """``bounded``: the input has an end, and nobody waits for a session before. All of a period are given out at once."""
        self._windows = {window.name: window for window in windows}
        self._clock = clock
        self._bounded = bounded
        self._few = FewPartials()

    def process(
        self,
        element: tuple[str, bytes],
        opened: Any = beam.DoFn.StateParam(OPEN),
        head: Any = beam.DoFn.StateParam(HEAD),
        look: Any = beam.DoFn.TimerParam(LOOK),
        clear: Any = beam.DoFn.TimerParam(CLEAR),
    ) -> Iterator[pl.DataFrame]:
        key, data = element
        window, period = self._window(key)
        self._few.put(key, opened, data[_HEAD.size :], lambda parts: [pack(self._merged(window, parts))])
        if self._bounded:
            data = _HEAD.pack(period + window.size, False)
        _look_in_time(data, head, look)
        clear.set(Timestamp(micros=period + window.size + window.allowed_lateness))
        yield from ()

    @on_timer(LOOK)
    def on_look(
        self,
        key: str = beam.DoFn.KeyParam,
        time: Timestamp = beam.DoFn.TimestampParam,
        opened: Any = beam.DoFn.StateParam(OPEN),
        given: Any = beam.DoFn.StateParam(GIVEN),
        head: Any = beam.DoFn.StateParam(HEAD),
        look: Any = beam.DoFn.TimerParam(LOOK),
    ) -> Iterator[pl.DataFrame]:
        parts, known = list(opened.read()), head.read()
        if not parts or not known:
            return
        window, period = self._window(key)
        _, late = _HEAD.unpack(known)
        if late:
            parts += list(given.read())
            given.clear()
        merged = self._merged(window, parts)
        rows = sessions.ready(merged, window, period, time=time.micros, updated_at=self._clock())
        settled, others = sessions.after_giving(merged, window, period, time=time.micros)
        opened.clear()
        head.clear()
        self._few.forget(key)
        if len(settled):
            given.add(pack(settled))
        if len(others):
            opened.add(pack(others))
            due = sessions.look_at(others, window, period, after=time.micros)
            assert due is not None, "what was given out and has not changed is settled"
            head.write(_HEAD.pack(due, False))
            look.set(Timestamp(micros=due))
        if len(rows):
            yield rows

    @on_timer(CLEAR)
    def on_clear(
        self,
        key: str = beam.DoFn.KeyParam,
        opened: Any = beam.DoFn.StateParam(OPEN),
        given: Any = beam.DoFn.StateParam(GIVEN),
        head: Any = beam.DoFn.StateParam(HEAD),
    ) -> Iterator[pl.DataFrame]:
        parts = list(opened.read())
        # Some runners fire this timer before the other.
        if parts:
            window, period = self._window(key)
            merged = self._merged(window, [*parts, *given.read()])
            yield sessions.ready(merged, window, period, time=period + window.size, updated_at=self._clock())
        opened.clear()
        given.clear()
        head.clear()
        self._few.forget(key)

    @staticmethod
    def _merged(window: WindowSpec, parts: Sequence[bytes]) -> pl.DataFrame:
        return sessions.merge([unpack(part) for part in parts], window)

    def _window(self, key: str) -> tuple[WindowSpec, int]:
        name, period, _ = key.rsplit("|", 2)
        return self._windows[name], int(period)


def _look_in_time(arrived: bytes, head: Any, look: Any) -> None:
    """Set the timer for what has arrived, where it has to be looked at before all else."""
    due, late = _HEAD.unpack_from(arrived)
    known = head.read()
    before, was_late = _HEAD.unpack(known) if known else (None, False)
    if before is None or due < before:
        look.set(Timestamp(micros=due))
    else:
        due = before
    if known is None or (before, was_late) != (due, late or was_late):
        head.write(_HEAD.pack(due, late or was_late))
