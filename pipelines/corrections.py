"""Windows below the floor, computed again from the log: for late events that a restarted job must not add to half a window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from brokers import LogReader
from pipelines.batch.options import text_of
from pipelines.others import with_others
from pipelines.session import Session
from pipelines.sources.discovery import Source
from pipelines.state import Asked, JobState
from schemas.errors import IoTCloudError
from schemas.registry import EventSchema, Schemas
from telemetry.logs import logger
from transforms.admit import BEFORE_ALL, Admission, AdmitSettings, PartitionKey, wall_clock
from transforms.aggregates import LATE
from transforms.block import block_of
from transforms.decode import Decoder
from transforms.few import MOST_PARTIALS
from transforms.partials import merge_of, partials_of, rows_of
from transforms.progress import Mark, restart
from transforms.windowing import Correction
from transforms.windows import WindowSpec

_PAUSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.2
_BLOCK_BYTES: Final = 1_100_000


@dataclass(frozen=True)
class Recomputation:
    """What computing windows again needs to know."""

    sources: tuple[Source, ...]
    schemas: tuple[EventSchema, ...]
    windows: tuple[WindowSpec, ...]
    future_bound: int = 300_000_000
    clock: Callable[[], int] = wall_clock

    def rows(
        self, corrections: Iterable[Correction], marks: Mapping[PartitionKey, Sequence[Mark]], session: Session
    ) -> tuple[dict[str, list[pl.DataFrame]], set[tuple[str, int]]]:
        """Whole result rows of the windows, by their table, from all that the log holds of them now.

        And the windows, by name and start, that have none: the log no longer holds all of them.
        """
        wanted = {(correction.window, correction.start) for correction in corrections}
        windows = {window.name: window for window in self.windows}
        wanted = {(name, start) for name, start in wanted if name in windows}
        gone = self._gone(wanted, marks, session)
        wanted -= gone
        if not wanted:
            return {}, gone
        least = min(start for _, start in wanted)
        most = max(start + windows[name].size for name, start in wanted)
        kept: dict[tuple[str, int], list[pl.DataFrame]] = {}
        for reader, topic, partition in self._partitions(session):
            start = restart(marks.get((topic, partition), ()), least)
            for columns in self._events(reader, topic, partition, start, least, most):
                self._add(columns, wanted, kept)
        now = self.clock()
        found: dict[str, list[pl.DataFrame]] = {}
        for (name, start), partials in kept.items():
            window = windows[name]
            rows = rows_of(window, start, merge_of(window, partials), pane=LATE, updated_at=now)
            found.setdefault("sessions" if window.gap else "aggregates", []).append(rows)
        return found, gone

    def _partitions(self, session: Session) -> Iterator[tuple[LogReader, str, int]]:
        for source in self.sources:
            for topic in source.topics:
                with session.reader(source.url, topic, -2, base=source.base) as reader:
                    for partition in reader.partitions(topic):
                        yield reader, topic, partition

    def _gone(
        self, wanted: Iterable[tuple[str, int]], marks: Mapping[PartitionKey, Sequence[Mark]], session: Session
    ) -> set[tuple[str, int]]:
        """Windows whose beginning the log no longer holds. Their rows stay as they are: a part must not replace a whole."""
        gone: set[tuple[str, int]] = set()
        for reader, topic, partition in self._partitions(session):
            known, begin = marks.get((topic, partition), ()), reader.begin_offset(topic, partition)
            gone |= {(name, start) for name, start in wanted if _first_needed(known, start, begin) < begin}
        for name, start in gone:
            session.counts.add("uncorrectable_windows")
            logger("corrections").warning(
                "a late event came to a window whose beginning the log no longer holds: its row stays as it is",
                window=name,
                start=text_of(start),
                remedy="compute it from the archive: iotcloud pipeline reprocess; keep logs longer than lateness",
            )
        return gone

    def _add(self, columns: pl.DataFrame, wanted: set[tuple[str, int]], kept: dict[tuple[str, int], list[pl.DataFrame]]) -> None:
        for window, start, partial in partials_of(columns, self.windows):
            if (window.name, start) in wanted:
                partials = kept.setdefault((window.name, start), [])
                partials.append(partial)
                if len(partials) >= MOST_PARTIALS:
                    partials[:] = [merge_of(window, partials)]

    def _events(
        self, reader: LogReader, topic: str, partition: int, start: int | None, least: int, most: int
    ) -> Iterable[pl.DataFrame]:
        """New events with times from ``least`` to ``most`` (exclusive) between an offset and the end of the log."""
        settings = AdmitSettings(self.schemas, future_bound=self.future_bound, snapshot_every=0, clock=self.clock)
        admission = Admission(settings, Decoder(Schemas(self.schemas)), None)
        position = start if start is not None else reader.begin_offset(topic, partition)
        end = reader.end_offset(topic, partition)
        while position < end:
            # What expires meanwhile ends this try: the next one knows what is gone.
            records = reader.read(topic, partition, position, max_records=50_000, max_bytes=_BLOCK_BYTES, timeout=5.0)
            if not records:
                return
            position = records[-1].offset + 1
            block = block_of(topic, partition, records, watermark=BEFORE_ALL)
            for admitted in admission.take(block)[0]:
                times = admitted.columns.get_column("event_time").to_numpy()
                inside = (times >= least) & (times < most)
                if inside.any():
                    yield admitted.columns if inside.all() else admitted.columns.filter(pl.Series(np.asarray(inside)))


def _first_needed(marks: Sequence[Mark], start: int, begin: int) -> int:
    """The first offset that may hold events of a window from ``start`` on, as far as the job has read the log."""
    needed = restart(marks, start)
    return min((mark.offset for mark in marks), default=begin) if needed is None else needed


class Corrector:
    """Works off a job's list of corrections, in a thread of its own until closed."""

    def __init__(
        self,
        state: JobState,
        recomputation: Recomputation,
        session: Session,
        write: Callable[[Mapping[str, pl.DataFrame]], None],
    ) -> None:
        self._state = state
        self._recomputation = recomputation
        self._session = session
        self._write = write
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="corrections", daemon=True)
        self._thread.start()

    def work_off(self) -> int:
        """Compute all windows listed now. Returns how many. Raises `IoTCloudError` when log or sink cannot be used."""
        asked: list[Asked] = self._state.corrections()
        if not asked:
            return 0
        corrections = [entry.correction for entry in asked]
        found, gone = self._recomputation.rows(corrections, self._state.marks(), self._session)
        self._write({table: with_others(pl.concat(rows, how="diagonal"), table) for table, rows in found.items()})
        self._state.settled(asked)
        corrected = sum((correction.window, correction.start) not in gone for correction in corrections)
        self._session.counts.add("corrected_windows", corrected)
        return len(asked)

    def close(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Work off what is left, and stop the thread; return without waiting for that as soon as ``given_up`` says so."""
        self._closing.set()
        while self._thread.is_alive() and not given_up():
            self._thread.join(_LOOK_SECONDS)

    def _run(self) -> None:
        pause, closing = _PAUSE_SECONDS, False
        while not closing:
            closing = self._closing.wait(pause)
            began = time.monotonic()
            try:
                self.work_off()
            except IoTCloudError as error:
                # What is not worked off stays on the list.
                logger("corrections").warning("cannot compute windows again now", reason=str(error))
            # A gateway that delivers late all the time must not have the log read all the time.
            pause = max(_PAUSE_SECONDS, 10 * (time.monotonic() - began))
