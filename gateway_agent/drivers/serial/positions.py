"""Messages of GNSS receivers into positions.

- UBX NAV-PVT, class 01 id 07 (u-blox M8 receiver description, UBX-13003221, section 32.17.15).
- NMEA GGA, of any talker; its date comes from RMC, of any talker (NMEA 0183 4.x).

A decoder gets a frame that passed its check and the `Clock` of its line. It gives a position, None when the message holds
none, and raises ValueError when it is not what its standard says. To decode another message, add a function to `DECODERS`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from gateway_agent.drivers.serial.scanner import Frame


class Position(NamedTuple):
    """``time`` is aware, or None where the receiver does not know it; the rest are the fields of the schema Position."""

    time: datetime | None
    latitude: float
    longitude: float
    altitude: float
    satellites: int
    fix: int


@dataclass(slots=True)
class Clock:
    """The receiver's date, which GGA does not carry: the newest time it told, or the gateway's as long as it told none."""

    gateway_time: Callable[[], datetime]
    told: datetime | None = None

    def at(self, time_of_day: timedelta) -> datetime:
        """The moment with this time of day that is nearest to what the clock shows, so that midnight does no harm."""
        shows = self.told or self.gateway_time()
        midnight = datetime(shows.year, shows.month, shows.day, tzinfo=UTC)
        found = min(
            (midnight + timedelta(days=days) + time_of_day for days in (-1, 0, 1)), key=lambda moment: abs(moment - shows)
        )
        if self.told:
            self.told = found
        return found


Decoder = Callable[[bytes, Clock], "Position | None"]

_NAV_PVT: Final = struct.Struct("<IHBBBBBBIiBBBBiiii")
_VALID_DATE_AND_TIME: Final = 0b11
#: Kinds of fix that come with a place: dead reckoning, 2D, 3D, combined.
_FIXES_WITH_PLACE: Final = range(1, 5)
#: Kind of fix by GGA's quality; 0 (none) and 7 (typed in by hand) are no measured places.
_FIX_OF_QUALITY: Final = {1: 3, 2: 3, 3: 3, 4: 3, 5: 3, 6: 1, 8: 3}

#: Numbers as NMEA writes them. What Python takes for one is more: nan, 1e400, -3 satellites, 1_0.
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]*)?")
_COUNT: Final = re.compile(r"[0-9]{0,2}")
_MINUTES: Final = re.compile(r"[0-5][0-9](\.[0-9]*)?")


def decode(frame: Frame, clock: Clock) -> Position | None:
    """The position in a frame, if it holds one. Raises ValueError, which says why."""
    decoder = DECODERS.get(_message(frame))
    return decoder(frame.data, clock) if decoder else None


def decode_nav_pvt(frame: bytes, _clock: Clock) -> Position | None:
    payload = frame[6:-2]
    if len(payload) < _NAV_PVT.size:
        raise ValueError(f"NAV-PVT: {len(payload)} bytes are too few")
    (_, year, month, day, hour, minute, second, valid, _, nanoseconds, fix, _, _, satellites, lon, lat, _, above_sea) = (
        _NAV_PVT.unpack_from(payload)
    )
    if fix not in _FIXES_WITH_PLACE:
        return None
    time = None
    if valid & _VALID_DATE_AND_TIME == _VALID_DATE_AND_TIME:
        try:
            # By addition: a leap second is second 60, and nanoseconds may be negative.
            minute_begin = datetime(year, month, day, hour, minute, tzinfo=UTC)
            time = minute_begin + timedelta(seconds=second, microseconds=nanoseconds // 1_000)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"NAV-PVT: its time: {error}") from None
    return _position("NAV-PVT", Position(time, lat / 1e7, lon / 1e7, above_sea / 1e3, satellites, fix))


def decode_gga(frame: bytes, clock: Clock) -> Position | None:
    fields = _fields(frame, 10, "GGA")
    fix = _FIX_OF_QUALITY.get(_count(fields[6], "quality"))
    if fix is None or not fields[2] or not fields[4]:
        return None
    if not fields[9]:
        # The schema has no position without its altitude.
        return None
    time = clock.at(_time_of_day(fields[1], "GGA")) if fields[1] else None
    latitude = _degrees(fields[2], 2, fields[3], "NS")
    longitude = _degrees(fields[4], 3, fields[5], "EW")
    return _position("GGA", Position(time, latitude, longitude, _altitude(fields[9]), _count(fields[7], "satellites"), fix))


def decode_rmc(frame: bytes, clock: Clock) -> Position | None:
    """Sets the clock; it knows neither altitude nor satellites, so it is no position."""
    fields = _fields(frame, 9, "RMC")
    if fields[2] != "A" or not fields[1] or not fields[9]:
        return None
    text = fields[9]
    if len(text) != 6 or not text.isdigit():
        raise ValueError(f"RMC: {text!r} is not a date")
    year = int(text[4:])
    # GPS began in 1980.
    day = date(year + (1900 if year >= 80 else 2000), int(text[2:4]), int(text[:2]))
    clock.told = datetime(day.year, day.month, day.day, tzinfo=UTC) + _time_of_day(fields[1], "RMC")
    return None


#: By framing and message: UBX class and id, or the NMEA sentence without its talker.
DECODERS: Final[Mapping[tuple[str, bytes], Decoder]] = {
    ("ubx", b"\x01\x07"): decode_nav_pvt,
    ("nmea", b"GGA"): decode_gga,
    ("nmea", b"RMC"): decode_rmc,
}


def _message(frame: Frame) -> tuple[str, bytes]:
    if frame.kind == "ubx":
        return "ubx", frame.data[2:4]
    address = frame.data[1:].partition(b",")[0]
    # Two letters of talker and three of sentence; what begins with P is a maker's own.
    standard = frame.kind == "nmea" and len(address) == 5 and not address.startswith(b"P")
    return frame.kind, address[2:] if standard else address


def _fields(frame: bytes, last: int, name: str) -> list[str]:
    fields = frame[1:].rpartition(b"*")[0].decode("ascii").split(",")
    if len(fields) <= last:
        raise ValueError(f"{name}: {len(fields)} fields are too few")
    return fields


def _time_of_day(text: str, name: str) -> timedelta:
    whole, _, fraction = text.partition(".")
    if len(whole) != 6 or not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise ValueError(f"{name}: {text!r} is not a time of day")
    hour, minute, second = int(whole[:2]), int(whole[2:4]), int(whole[4:])
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(f"{name}: {text!r} is not a time of day")
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=int(fraction[:6].ljust(6, "0")))


def _degrees(text: str, whole_digits: int, direction: str, directions: str) -> float:
    """Degrees and decimal minutes, such as 5327.03942 N."""
    if direction not in directions or len(direction) != 1:
        raise ValueError(f"GGA: {direction!r} is not one of {directions}")
    degrees, minutes = text[:whole_digits], text[whole_digits:]
    if not (len(degrees) == whole_digits and degrees.isdigit() and _MINUTES.fullmatch(minutes)):
        raise ValueError(f"GGA: {text!r} is not degrees and minutes")
    value = int(degrees) + float(minutes) / 60
    return -value if direction == directions[1] else value


def _altitude(text: str) -> float:
    """Metres."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"GGA: {text!r} is not an altitude")
    return float(text)


def _count(text: str, name: str) -> int:
    """A number of one or two digits; an empty field counts as 0."""
    if not _COUNT.fullmatch(text):
        raise ValueError(f"GGA: {name} {text!r} is not a small number")
    return int(text or 0)


def _position(name: str, position: Position) -> Position:
    if not (abs(position.latitude) <= 90 and abs(position.longitude) <= 180):
        raise ValueError(f"{name}: latitude {position.latitude}, longitude {position.longitude} is no place on Earth")
    return position
