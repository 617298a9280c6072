"""What a serial line is told."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from settings import Bytes, Seconds

FramingName = Literal["nmea", "ubx", "line"]


class SerialSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Settings of the serial driver; its README explains each."""

    port: str
    device: str
    baud: Annotated[int, msgspec.Meta(ge=50)] = 9600
    framing: tuple[FramingName, ...] = ("nmea",)
    delimiter: str = "\n"
    longest_frame: Bytes = Bytes(4_096)
    #: Silence on the line after which an incomplete frame is doubted.
    idle_gap: Seconds = Seconds(0.5)

    def __post_init__(self) -> None:
        if not self.port or not self.device:
            raise ValueError("'port' and 'device' must not be empty")
        if not self.framing:
            raise ValueError("framing: names none of nmea, ubx, line")
        if not self.delimiter:
            raise ValueError("delimiter: must not be empty")
        if not 64 <= self.longest_frame <= 65_536:
            raise ValueError("longest_frame: 64 to 65536 bytes")
        if not 0.01 <= self.idle_gap <= 60:
            raise ValueError('idle_gap: "10ms" to "60s"')


class WriteArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes to write: either ``text``, sent as UTF-8, or ``hex``, pairs of hexadecimal digits."""

    text: str = ""
    hex: str = ""
