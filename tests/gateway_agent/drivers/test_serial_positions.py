"""Positions of GNSS receivers: from UBX NAV-PVT and NMEA GGA, with the receiver's own time."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from gateway_agent.drivers.serial.positions import Clock, Position, decode
from gateway_agent.drivers.serial.scanner import Frame, Scanner
from tests.gateway_agent.drivers.kit import CAPTURES
from tests.gateway_agent.drivers.test_serial_framing import nmea, ubx

NOW = datetime(2024, 3, 1, 23, 59, 58, tzinfo=UTC)


def positions(data: bytes, clock: Clock | None = None) -> list[Position]:
    clock = clock or Clock(lambda: NOW)
    found = [decode(one, clock) for one in Scanner(("nmea", "ubx")).feed(data) if isinstance(one, Frame)]
    return [one for one in found if one]


def nav_pvt(**changes: int) -> bytes:
    values = {
        "itow": 0, "year": 2024, "month": 2, "day": 29, "hour": 23, "minute": 59, "second": 59, "valid": 3, "accuracy": 0,
        "nano": 0, "fix": 3, "flags": 1, "flags2": 0, "satellites": 9, "lon": 82_500_000, "lat": -505_000_000,
        "height": 0, "above_sea": -1_500,
    }  # fmt: skip
    payload = struct.pack("<IHBBBBBBIiBBBBiiii", *{**values, **changes}.values()).ljust(92, b"\0")
    return ubx(b"\x01\x07", payload)


def test_the_capture_of_a_receiver_holds_39_positions_a_second_apart() -> None:
    found = positions((CAPTURES / "pygpsdata-MIXED.log").read_bytes())
    assert len(found) == 39
    times = [one.time for one in found if one.time]
    assert (times[0], len(times)) == (datetime(2020, 10, 23, 11, 33, 15, 52, tzinfo=UTC), 39)
    assert [round((time - times[0]).total_seconds()) for time in times] == list(range(39))
    assert found[0][1:] == (53.4506691, -2.2402964, 27.215, 15, 3)


def test_the_sentences_of_a_receiver_hold_one_position() -> None:
    """Its date is not told in the capture, so it is the gateway's."""
    (found,) = positions((CAPTURES / "pygpsdata-NMEA.log").read_bytes())
    assert found.time == datetime(2024, 3, 2, 10, 36, 7, tzinfo=UTC)
    assert found.latitude == pytest.approx(53 + 27.03942 / 60)
    assert found.longitude == pytest.approx(-(2 + 14.42462 / 60))
    assert found[3:] == (56.0, 6, 3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ({"nano": 250_000_999}, datetime(2024, 2, 29, 23, 59, 59, 250_000, tzinfo=UTC)),
        ({"nano": -1_000}, datetime(2024, 2, 29, 23, 59, 58, 999_999, tzinfo=UTC)),
        ({"second": 60}, datetime(2024, 3, 1, tzinfo=UTC)),
        ({"valid": 1}, None),
        ({"valid": 2}, None),
    ],
)
def test_the_time_of_nav_pvt_is_the_receivers_when_it_knows_it(changes: dict[str, int], expected: datetime | None) -> None:
    (found,) = positions(nav_pvt(**changes))
    assert found == Position(expected, -50.5, 8.25, -1.5, 9, 3)


@pytest.mark.parametrize("fix", [0, 5])
def test_without_a_place_there_is_no_position(fix: int) -> None:
    assert positions(nav_pvt(fix=fix)) == []


@pytest.mark.parametrize(
    "frame",
    [
        ubx(b"\x01\x07", bytes(20)),
        nav_pvt(month=13),
        nav_pvt(lat=910_000_000),
        nmea("GPGGA,246000,5327.0,N,00214.4,W,1,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,X,00214.4,W,1,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5367.0,N,00214.4,W,1,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,06,5.8,nan,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,06,5.8,-inf,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,06,5.8,1e400,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,06,5.8," + "9" * 400 + ",M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,-3,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,99999999999,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,x,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5_27.0,N,00214.4,W,1,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,+127.0,N,00214.4,W,1,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,535e1,N,00214.4,W,1,06,5.8,56.0,M,48.5,M,,"),
        nmea("GPGGA,103607,5327.0,N,00214.4,W,1,06,5.8,1_0.0,M,48.5,M,,"),
        nmea("GPRMC,103607,A,5327.0,N,00214.4,W,0.0,,320126,,,A"),
        nmea("GPRMC,103607,A,5327.0,N,00214.4,W,0.0,,1a0126,,,A"),
    ],
)
def test_a_whole_frame_with_nonsense_in_it_is_told_not_believed(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        positions(frame)


@pytest.mark.parametrize(("quality", "fix"), [(1, 3), (2, 3), (4, 3), (6, 1)])
def test_the_quality_of_gga_becomes_the_kind_of_fix(quality: int, fix: int) -> None:
    (found,) = positions(nmea(f"GPGGA,103607,5327.0,N,00214.4,W,{quality},06,5.8,56.0,M,48.5,M,,"))
    assert found.fix == fix


@pytest.mark.parametrize(("text", "altitude"), [("-12.5", -12.5), ("0", 0.0), ("56.", 56.0), ("8848.86", 8848.86)])
def test_altitudes_come_with_and_without_decimals_and_below_the_sea(text: str, altitude: float) -> None:
    (found,) = positions(nmea(f"GPGGA,103607,5327,N,00214.4,W,1,,5.8,{text},M,48.5,M,,"))
    assert (found.altitude, found.satellites) == (altitude, 0)


@pytest.mark.parametrize("body", ["GPGGA,103607,5327.0,N,00214.4,W,0,00,,,M,,M,,", "GPGGA,,,,,,0,00,99.99,,,,,,"])
def test_gga_without_a_fix_is_no_position(body: str) -> None:
    assert positions(nmea(body)) == []


def gga(time: str) -> bytes:
    return nmea(f"GPGGA,{time},5327.0,N,00214.4,W,1,06,5.8,56.0,M,48.5,M,,")


def rmc(time: str, date: str, status: str = "A") -> bytes:
    return nmea(f"GPRMC,{time},{status},5327.0,N,00214.4,W,0.0,,{date},,,A")


def test_the_date_of_gga_is_that_of_the_latest_rmc_also_across_midnight() -> None:
    line = (
        rmc("235958.00", "311219")
        + gga("235958.00")
        + gga("235959.50")
        + gga("000000.25")
        + rmc("000001.00", "010120")
        + gga("000001.00")
    )
    assert [one.time for one in positions(line)] == [
        datetime(2019, 12, 31, 23, 59, 58, tzinfo=UTC),
        datetime(2019, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
        datetime(2020, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC),
        datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC),
    ]


def test_a_receiver_that_stops_telling_the_date_is_followed_through_the_days() -> None:
    line = rmc("120000", "280224") + b"".join(gga(f"{hour % 24:02}0000") for hour in range(12, 85, 6))
    assert positions(line)[-1].time == datetime(2024, 3, 2, 12, tzinfo=UTC)


def test_a_date_that_the_receiver_does_not_vouch_for_is_not_used() -> None:
    (found,) = positions(rmc("103607", "010180", status="V") + gga("235957"))
    assert found.time == datetime(2024, 3, 1, 23, 59, 57, tzinfo=UTC)


def test_without_any_date_the_gateways_is_taken_across_midnight() -> None:
    (found,) = positions(gga("000003"))
    assert found.time == datetime(2024, 3, 2, 0, 0, 3, tzinfo=UTC)
