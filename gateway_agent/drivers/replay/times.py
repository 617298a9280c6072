"""The time of a row, in µs since 1970, UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from gateway_agent.drivers.replay.settings import TimeOf
from gateway_agent.drivers.replay.values import shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: µs in one of each unit; nanoseconds are cut to whole µs.
_UNITS: Final = {
    "seconds": Decimal(1_000_000),
    "milliseconds": Decimal(1_000),
    "microseconds": Decimal(1),
    "nanoseconds": Decimal("0.001"),
}
#: Years 1 to 9999: what a datetime, and so an event, can hold.
_EARLIEST: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
#: Power of ten that no time of these years reaches, whatever the unit.
_TOO_GREAT: Final = 21
_OUTSIDE: Final = "a time outside the years 1 to 9999"

#: Raises ValueError, which says why, for a cell that holds no time.
TimeReader = Callable[[Any], int]


def time_reader(time: TimeOf) -> TimeReader:
    """How to read a cell of the column that ``time`` names."""
    if time.start is not None:
        return _numbered(_micros(time.start), time.first, round(time.step * 1_000_000))
    if time.format == "iso":
        return _iso
    return _counted(time.format)


def _numbered(start: int, first: int, step: int) -> TimeReader:
    def read(cell: Any) -> int:
        if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell) or isinstance(cell, float):
            raise ValueError(f"{shown(cell)} is not a running number")
        try:
            number = int(cell)
        except (TypeError, ValueError):
            raise ValueError(f"{shown(cell)} is not a running number") from None
        return _checked(start + (number - first) * step)

    return read


def _counted(unit: str) -> TimeReader:
    factor = _UNITS[unit]

    def read(cell: Any) -> int:
        if isinstance(cell, (bool, dict, list)) or (isinstance(cell, str) and "_" in cell):
            raise ValueError(f"{shown(cell)} is not a number of {unit} since 1970")
        try:
            # By way of text: 0.1 is meant, not the binary fraction next to it.
            value = Decimal(str(cell).strip())
        except InvalidOperation:
            raise ValueError(f"{shown(cell)} is not a number of {unit} since 1970") from None
        if not value.is_finite():
            raise ValueError(f"{shown(cell)} is not a number of {unit} since 1970")
        # Before anything is computed: decimals raise at limits of their own.
        if value.adjusted() >= _TOO_GREAT:
            raise ValueError(_OUTSIDE)
        return _checked(int(value * factor // 1))

    return read


def _iso(cell: Any) -> int:
    try:
        time = datetime.fromisoformat(cell.strip())
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{shown(cell)} is not a time such as 2010-05-09T00:00:05Z") from None
    # Its zone may take it out of the years that a datetime in UTC has.
    return _checked(_micros(time))


def _micros(time: datetime) -> int:
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _checked(time: int) -> int:
    if not _EARLIEST <= time <= _LATEST:
        raise ValueError(_OUTSIDE)
    return time
