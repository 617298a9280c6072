"""A recording of events: a file, how its rows are understood, and its rows in the order of time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from gateway_agent.drivers.replay.fingerprint import SAMPLE, Fingerprint, fingerprint
from gateway_agent.drivers.replay.lines import CHUNK, read_lines
from gateway_agent.drivers.replay.mapping import RowMapping, mapping
from gateway_agent.drivers.replay.merge import Timed, check_overlap, merge
from gateway_agent.drivers.replay.rows import Row, RowReader, csv_rows, jsonl_rows
from gateway_agent.drivers.replay.segments import Place, Segment, find_segments
from gateway_agent.drivers.replay.settings import ReplaySettings
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema

#: Bytes that the buffers of all open runs take together, about.
_BUFFERS: Final = 1 << 20
#: Rows between questions whether to go on.
_LOOK_UP: Final = 4_096

_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")

#: Takes a row that is not replayed, or a part of it, and the reason.
Report = Callable[[Row, str], None]


class _Interrupted(Exception):
    """The pass over the file is not to be finished."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An open recording. ``start`` and ``line`` are where its rows begin, after the header."""

    file: int
    path: str
    size: int
    start: int
    line: int
    read_rows: RowReader
    mapping: RowMapping
    settings: ReplaySettings

    def fingerprint(self, sample: int = SAMPLE) -> Fingerprint:
        """Tells this recording, understood this way, from another; what is said is what the order of its rows depends on."""
        about = f"{self.settings.format} {self.settings.delimiter} {self.settings.time}"
        return fingerprint(self.file, about, sample=sample)

    def in_time_order(self, after: Place | None, report: Report, stopping: Callable[[], bool]) -> Iterator[Timed] | None:
        """The rows after a place, merged. Rows without a time are reported first, all of them, in one pass.

        None when it was ``stopping`` before that pass was over. Raises `TooDisordered`.
        """
        seen = 0

        def time(row: Row) -> int | None:
            nonlocal seen
            seen += 1
            if not seen % _LOOK_UP and stopping():
                raise _Interrupted
            at, problem = _time(self.mapping, row)
            if problem:
                report(row, problem)
            return at

        lines = read_lines(self.file, self.start, self.size)
        try:
            segments = list(find_segments(self.read_rows(lines, self.line), time, end=self.size, after=after))
        except _Interrupted:
            return None
        chunk = max(4_096, min(CHUNK, _BUFFERS // max(1, check_overlap(segments, file=self.path))))

        def read(segment: Segment) -> Iterator[Timed]:
            lines = read_lines(self.file, segment.start, segment.end, chunk=chunk)
            for row in self.read_rows(lines, segment.line):
                at, _ = _time(self.mapping, row)
                if at is not None and (after is None or (at, row.offset) > after):
                    yield at, row

        return merge(segments, read)


@contextlib.contextmanager
def open_recording(settings: ReplaySettings, schemas: Mapping[str, EventSchema]) -> Iterator[Recording]:
    """Open what ``settings`` name; rows that are appended later are not seen. Raises `ConfigurationError`."""
    with contextlib.ExitStack() as opened:
        try:
            # A pipe would be waited for.
            file = os.open(settings.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            opened.callback(os.close, file)
            recording = _understand(file, settings, schemas)
        except OSError as error:
            raise ConfigurationError(
                f"file: {settings.file}: cannot be read: {error.strerror}", remedy="give the path of a recording"
            ) from error
        yield recording


def _understand(file: int, settings: ReplaySettings, schemas: Mapping[str, EventSchema]) -> Recording:
    size = os.fstat(file).st_size
    head = os.pread(file, 4, 0)
    if head[:2] in _UTF_16:
        raise ConfigurationError(f"file: {settings.file}: is UTF-16", remedy="convert it: iconv -f UTF-16 -t UTF-8")
    start = len(_BOM) if head.startswith(_BOM) else 0
    if settings.format == "jsonl":
        return Recording(file, settings.file, size, start, 1, jsonl_rows, mapping(settings, schemas, None), settings)
    read_rows = partial(csv_rows, delimiter=settings.delimiter)
    first = list(islice(read_rows(read_lines(file, start, size), 1), 2))
    if not first:
        raise ConfigurationError(f"file: {settings.file}: is empty", remedy="a recording begins with a line of column names")
    header = first[0]
    if header.cells is None:
        raise ConfigurationError(f"file: {settings.file}:{header.line}: {header.problem}", remedy="its first line names columns")
    columns = [name.strip() for name in header.cells]
    if any("\r" in name for name in columns):
        raise ConfigurationError(f"file: {settings.file}: its lines end with CR alone", remedy=r"convert it: tr '\r' '\n'")
    after_header, line = (first[1].offset, first[1].line) if len(first) > 1 else (size, header.line + 1)
    return Recording(file, settings.file, size, after_header, line, read_rows, mapping(settings, schemas, columns), settings)


def _time(mapping: RowMapping, row: Row) -> tuple[int | None, str]:
    if row.cells is None:
        return None, row.problem
    try:
        return mapping.time(row.cells), ""
    except ValueError as error:
        return None, str(error)
