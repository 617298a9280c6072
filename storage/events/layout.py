"""Where events lie: ``events/schema=NAME/dt=YYYY-MM-DD/hour=HH/part-….avro``, by event time, UTC.

Invariants: an hour's directory comes into being, and is changed, as a whole; beside its parts it holds ``_manifest.json``
(`storage.events.manifest`) and an empty ``_SUCCESS``. Readers of other systems pass names that begin with ``_`` over. An
event is in exactly one hour, that of its event time, so whether it is there twice can be seen from the hour alone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from storage.events.files import Files

ROOT: Final = "events"
MANIFEST: Final = "_manifest.json"
SUCCESS: Final = "_SUCCESS"
#: How far the journal has been worked off.
PROGRESS: Final = f"{ROOT}/_progress.json"
HOUR: Final = 3_600_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAME: Final = re.compile(r"schema=([A-Za-z0-9_]+)")
_DATE: Final = re.compile(r"dt=(\d{4}-\d\d-\d\d)")
_HOUR: Final = re.compile(r"hour=(\d\d)")


class Hour(NamedTuple):
    """An hour of the events of one schema name. ``start`` in µs since 1970, UTC."""

    name: str
    start: int

    @property
    def path(self) -> str:
        at = _EPOCH + timedelta(microseconds=self.start)
        return f"{ROOT}/schema={self.name}/dt={at.date().isoformat()}/hour={at.hour:02d}"

    @classmethod
    def parse(cls, path: str) -> Hour:
        """The inverse of `path`. Raises `ValueError` for another path."""
        _, schema, date, hour = path.split("/")
        name, number = _NAME.fullmatch(schema), _HOUR.fullmatch(hour)
        if name is None or number is None or not _DATE.fullmatch(date):
            raise ValueError(f"{path} is no hour's directory")
        return cls(name[1], _midnight(date) + int(number[1]) * HOUR)

    @property
    def end(self) -> int:
        return self.start + HOUR

    def __str__(self) -> str:
        return self.path.removeprefix(f"{ROOT}/")


def hour_of(name: str, time: int) -> Hour:
    """The hour that an event at ``time`` (µs since 1970, UTC) belongs to."""
    return Hour(name, time // HOUR * HOUR)


def hours(files: Files, *, start: int | None = None, end: int | None = None, name: str | None = None) -> list[Hour]:
    """Hours there are directories of, in the order of time, that hold times from ``start`` to ``end`` (exclusive)."""
    found = []
    for schema in files.list(ROOT):
        if not (match := _NAME.fullmatch(schema)) or name not in (None, match[1]):
            continue
        for date in files.list(f"{ROOT}/{schema}"):
            if not _DATE.fullmatch(date):
                continue
            midnight = _midnight(date)
            if (end is not None and midnight >= end) or (start is not None and midnight + 24 * HOUR <= start):
                continue
            numbers = map(_HOUR.fullmatch, files.list(f"{ROOT}/{schema}/{date}"))
            found += [Hour(match[1], midnight + int(number[1]) * HOUR) for number in numbers if number]
    return sorted(
        (hour for hour in found if (start is None or hour.end > start) and (end is None or hour.start < end)),
        key=lambda hour: (hour.start, hour.name),
    )


def _midnight(date: str) -> int:
    """Where the day of a directory ``dt=YYYY-MM-DD`` begins."""
    day = datetime.fromisoformat(f"{date.removeprefix('dt=')}T00:00:00+00:00")
    return (day - _EPOCH) // timedelta(microseconds=1)
