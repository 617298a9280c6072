"""The classic Beam pipeline: one element per event, decoded by fastavro, WindowInto and CombinePerKey."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from schemas.frame import decode_frame
from schemas.registry import Schemas
from transforms.block import decode_block

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Decode(beam.DoFn):
    """Frames in, one element per event out, at its event time."""

    def setup(self) -> None:
        self._schemas = Schemas.with_shipped()

    def process(self, frame: bytes) -> Iterator[Any]:
        for event in decode_frame(frame, self._schemas).events:
            time = (event["event_time"] - _EPOCH) // timedelta(microseconds=1)
            yield TimestampedValue(((event["device"], event["channel"]), event["value"]), Timestamp(micros=time))


class Frames(beam.DoFn):
    """What the source gives, frame by frame."""

    def process(self, element: tuple[str, bytes]) -> Iterator[bytes]:
        yield from decode_block(element[1]).frames()


class Statistics(beam.CombineFn):
    """Count, sum, least and greatest, as one writes it; sums as pairs so that rounding does not differ between the two."""

    def create_accumulator(self) -> tuple[int, float, float, float, float]:
        return 0, 0.0, 0.0, math.inf, -math.inf

    def add_input(self, accumulator: Any, value: float) -> Any:
        count, total, rest, least, most = accumulator
        added = total + value
        # Neumaier's compensation: what the addition has rounded away.
        rest += (total - added) + value if abs(total) >= abs(value) else (value - added) + total
        return count + 1, added, rest, min(least, value), max(most, value)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        merged = self.create_accumulator()
        for count, total, rest, least, most in accumulators:
            number, added, left, low, high = self.add_input(merged, total)
            del number
            merged = (merged[0] + count, added, left + rest, min(merged[3], least), max(merged[4], most))
            del low, high
        return merged

    def extract_output(self, accumulator: Any) -> tuple[int, float, float, float, float]:
        count, total, rest, least, most = accumulator
        return count, total + rest, (total + rest) / count, least, most


class Row(beam.DoFn):
    def process(self, element: Any, window: Any = beam.DoFn.WindowParam) -> Iterator[tuple[Any, ...]]:
        (device, channel), values = element
        yield (window.start.micros, window.end.micros, device, channel, *values)


class WriteRows(beam.DoFn):
    """Rows into a SQLite table, a transaction per bundle."""

    def __init__(self, path: str) -> None:
        self._path = path

    def start_bundle(self) -> None:
        self._rows: list[Any] = []

    def process(self, row: Any) -> None:
        self._rows.append(row)

    def finish_bundle(self) -> None:
        with sqlite3.connect(self._path, timeout=30) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS rows (start, stop, device, channel, count, sum, mean, min, max,"
                " PRIMARY KEY (start, stop, device, channel))"
            )
            database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._rows)
        database.close()


def aggregate(frames: Any, window: int) -> Any:
    """Frames to rows, with windows of ``window`` µs."""
    return (
        frames
        | "Decode" >> beam.ParDo(Decode())
        | "Into" >> beam.WindowInto(FixedWindows(window / 1e6))
        | "Combine" >> beam.CombinePerKey(Statistics())
        | "Row" >> beam.ParDo(Row())
    )
