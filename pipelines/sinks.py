"""Writing rows to stores from a pipeline. What this gives is empty; its watermark says what has been written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import apache_beam as beam
import polars as pl

from pipelines.others import with_others
from pipelines.session import Session, session_of
from schemas.errors import IoTCloudError
from settings.substitution import redact
from storage import Sink, StoreError, open_sink
from storage.tables import DEAD_LETTERS, GAPS, table_named
from transforms.admit import DeadLetter, GapRow

#: Rows of one write, and bytes of rows that are kept for one: what a store takes well at once.
MOST_ROWS: Final = 50_000
_MOST_BYTES: Final = 64_000_000


class WriteRows(beam.DoFn):
    """Data frames of rows of ``table`` in; written to every sink when the bundle ends, or as soon as they are many.

    A bundle of a batch job may bring the rows of a whole archive.
    """

    def __init__(self, job: str, table: str, urls: Sequence[str]) -> None:
        self._job = job
        self._table = table
        self._urls = tuple(urls)
        self._kept: list[pl.DataFrame] = []
        self._rows = self._bytes = 0

    def start_bundle(self) -> None:
        self._clear()
        session_of(self._job).writing.add(1)

    def process(self, rows: pl.DataFrame) -> Iterable[bytes]:
        if len(rows):
            self._kept.append(rows)
            self._rows += len(rows)
            self._bytes += int(rows.estimated_size())
            if self._rows >= MOST_ROWS or self._bytes >= _MOST_BYTES:
                self._write(session_of(self._job))
        return ()

    def finish_bundle(self) -> None:
        session = session_of(self._job)
        try:
            self._write(session)
        finally:
            session.writing.add(-1)

    def _write(self, session: Session) -> None:
        if not self._kept:
            return
        rows = pl.concat(self._kept, how="diagonal_relaxed") if len(self._kept) > 1 else self._kept[0]
        self._clear()
        rows = table_named(self._table).standing(with_others(rows, self._table))
        write_rows(map(with_sink, self._urls), {self._table: rows})
        session.counts.add(f"rows_{self._table}", len(rows))

    def _clear(self) -> None:
        self._kept = []
        self._rows = self._bytes = 0


def write_rows(sinks: Iterable[Sink], table_rows: Mapping[str, pl.DataFrame]) -> None:
    """Put rows into the tables of every sink, so many at once that no store is asked for too large a transaction.

    A sink that fails keeps them from no other: its error is raised when all have had their turn. Raises `StoreError`.
    """
    failed: list[StoreError] = []
    for sink in sinks:
        try:
            for table, rows in table_rows.items():
                for part in rows.iter_slices(MOST_ROWS):
                    sink.write(table, part)
        except StoreError as error:
            failed.append(error)
    if failed:
        for other in failed[1:]:
            failed[0].add_note(str(other))
        raise failed[0]


class Write(beam.PTransform):
    """`WriteRows` as a transform: data frames in, a collection out that stays empty."""

    def __init__(self, job: str, table: str, urls: Sequence[str]) -> None:
        super().__init__()
        self._write = WriteRows(job, table, urls)

    def expand(self, rows: Any) -> Any:
        return rows | beam.ParDo(self._write).with_output_types(bytes)


@lru_cache(maxsize=16)
def with_sink(url: str) -> Sink:
    """The sink at ``url``, opened once per process. Writes are serialised by it."""
    return _OneAtATime(open_sink(url))


class _OneAtATime:
    """A sink that several bundles of this process may use: the contract allows one call at a time."""

    def __init__(self, sink: Sink) -> None:
        import threading

        self._sink = sink
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._sink.url

    def write(self, table: str, rows: pl.DataFrame) -> None:
        with self._lock:
            self._sink.write(table, rows)

    def check(self) -> None:
        with self._lock:
            self._sink.check()

    def close(self) -> None:
        with self._lock:
            self._sink.close()


def close_sinks(urls: Iterable[str]) -> None:
    """Close what this process has opened of these."""
    for url in urls:
        with_sink(url).close()
    with_sink.cache_clear()


def dead_letter_rows(letters: Sequence[DeadLetter]) -> pl.DataFrame:
    """Rows for the table ``dead_letters``."""
    return pl.DataFrame(
        [
            {
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "reason": f"{letter.kind}: {letter.reason}" + (f" ({letter.events} events)" if letter.events else ""),
                "time": letter.detected_at,
                "frame": letter.frame,
            }
            for letter in letters
        ],
        schema=DEAD_LETTERS.types,
    )


def gap_rows(gaps: Sequence[GapRow]) -> pl.DataFrame:
    """Rows for the table ``gaps``."""
    return pl.DataFrame(
        [
            {
                "topic": row.topic,
                "gateway": row.gap.gateway,
                "epoch": row.gap.epoch,
                "first": row.gap.first,
                "last": row.gap.last,
                "count": row.gap.count,
                "state": row.gap.state,
                "reason": row.gap.reason,
                "detected_at": row.detected_at,
            }
            for row in gaps
        ],
        schema=GAPS.types,
    )


def one_dead_letter(letter: DeadLetter) -> pl.DataFrame:
    return dead_letter_rows([letter])


def one_gap(gap: GapRow) -> pl.DataFrame:
    return gap_rows([gap])


def check_sinks(urls: Iterable[str]) -> list[tuple[str, str]]:
    """Each sink with what is wrong with it, empty when it can be written."""
    found = []
    for url in urls:
        shown = redact(url)
        try:
            sink = with_sink(url)
            shown = sink.url
            sink.check()
            found.append((shown, ""))
        except IoTCloudError as error:
            found.append((shown, str(error)))
    return found
