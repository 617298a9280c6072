"""Rows into events at the pace they were recorded, or another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway_agent.driver import Context, Event
from gateway_agent.drivers.replay.mapping import RowMapping
from gateway_agent.drivers.replay.recording import Recording, Report, open_recording
from gateway_agent.drivers.replay.rows import Row
from gateway_agent.drivers.replay.segments import Place
from gateway_agent.drivers.replay.settings import ReplaySettings
from schemas.errors import SchemaError
from schemas.registry import EventSchema

#: Events that become durable together, with the place they end at.
BATCH: Final = 1_000
#: Bytes of recording, times channels, that go into a batch, about: less than what can become durable together.
_BATCH_BYTES: Final = 1 << 20
#: A pause is not shorter than this many seconds: a batch for every single row is more than a disk can do.
_GRAIN: Final = 0.05

_STATE: Final = "replay"


def play(context: Context, settings: ReplaySettings, schemas: Mapping[str, EventSchema]) -> None:
    """Emit a recording, from where the events accepted before it end, until it ends or the context is stopping."""
    with open_recording(settings, schemas) as recording:
        before = _Before.of(context, recording)
        rejected = 0

        def report(row: Row, reason: str) -> None:
            nonlocal rejected
            rejected += 1
            context.reject(f"{settings.file}:{row.line}", reason)

        def report_untimed(row: Row, reason: str) -> None:
            if row.offset >= before.size:
                report(row, reason)

        rows = recording.in_time_order(before.place, report_untimed, lambda: context.stopping)
        if rows is None:
            return
        pace = _Pace(settings.speed, before.place[0] if before.place else None)
        place = before.place
        batch: list[tuple[Row, Event]] = []
        size = 0
        for at, row in rows:
            ahead = pace.ahead(at)
            if ahead or len(batch) >= BATCH or size >= _BATCH_BYTES:
                if batch:
                    _commit(context, recording, batch, place, report)
                batch, size = [], 0
                if context.stopping or (ahead and not pace.wait(context, at)):
                    return
            place = (at, row.offset)
            batch += events_of(recording.mapping, at, row, report)
            size += row.size * len(recording.mapping.channels)
        _commit(context, recording, batch, place, report)
    context.log.info("the recording has ended", file=settings.file, rejected=rejected)


def events_of(mapping: RowMapping, at: int, row: Row, report: Report) -> list[tuple[Row, Event]]:
    """The events of a row; a cell that cannot be read costs its channel's event, a device that is not named all of them."""
    try:
        device = mapping.device(row.cells)
    except ValueError as error:
        report(row, str(error))
        return []
    events: list[tuple[Row, Event]] = []
    for channel, fields, problem in mapping.readings(row.cells):
        if problem:
            report(row, f"{channel}: {problem}")
        else:
            events.append((row, (device, channel, at, fields)))
    return events


@dataclass(frozen=True, slots=True)
class _Before:
    """How far an earlier process had come: the place its accepted events end at, and the bytes that the file had then."""

    place: Place | None = None
    size: int = 0

    @staticmethod
    def of(context: Context, recording: Recording) -> _Before:
        stored = context.state.get(_STATE)
        if stored is None:
            return _Before()
        if recording.fingerprint(stored["recording"][0]) != stored["recording"]:
            context.log.warning("another recording than before: it is replayed from its beginning", file=recording.path)
            return _Before()
        time, offset = stored["place"]
        return _Before((time, offset), stored["size"])


def _commit(context: Context, recording: Recording, batch: list[tuple[Row, Event]], place: Place | None, report: Report) -> None:
    if place is None:
        return
    with context.together():
        try:
            context.emit_many([event for _, event in batch])
        except SchemaError:
            # Nothing of it was taken, whatever was wrong: one of them is larger than the broker allows, say.
            for row, event in batch:
                try:
                    context.emit_many([event])
                except SchemaError as error:
                    report(row, str(error))
        context.state[_STATE] = {"recording": recording.fingerprint(), "place": list(place), "size": recording.size}


class _Pace:
    """When rows are due: their distance in time from the first, divided by ``speed``. What is late is due at once."""

    def __init__(self, speed: float, origin: int | None) -> None:
        self._speed = speed
        self._origin = origin
        self._started = time.monotonic()
        #: Everything up to this time was due when last looked at.
        self._due_until = -(1 << 63)

    def ahead(self, at: int) -> bool:
        """Whether a row of time ``at`` (µs) is not due yet."""
        if not self._speed or at <= self._due_until:
            return False
        if self._origin is None:
            self._origin = at
        self._due_until = self._origin + int((time.monotonic() - self._started) * 1_000_000 * self._speed)
        return at > self._due_until

    def wait(self, context: Context, at: int) -> bool:
        """Until a row of time ``at`` is due. False when stopping."""
        assert self._origin is not None  # `ahead` has been asked
        due = self._started + (at - self._origin) / 1_000_000 / self._speed
        return context.sleep(max(due - time.monotonic(), _GRAIN))
