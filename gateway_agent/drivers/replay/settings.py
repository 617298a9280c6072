"""What a replay is told: which file, which form, which column means what."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from settings import Seconds

Format = Literal["csv", "jsonl", "bytes"]
TimeFormat = Literal["iso", "seconds", "milliseconds", "microseconds", "nanoseconds"]


class TimeOf(msgspec.Struct, kw_only=True, frozen=True):
    """Where a row's time comes from.

    With ``start``: ``column`` holds a running number, and number N stands for start + (N - first) × step. Else
    ``column`` holds the time itself, in the ``format`` named. A time that names no zone is in UTC.
    """

    column: str
    format: TimeFormat = "iso"
    start: datetime | None = None
    first: int = 0
    step: Seconds = Seconds(0)

    def __post_init__(self) -> None:
        if (self.start is None) != (not self.step):
            raise ValueError("'start' and 'step' belong together: number N in the column stands for start + (N - first) × step")


class ReplaySettings(msgspec.Struct, kw_only=True, frozen=True):
    """Settings of the replay driver. ``speed`` is a factor on the recorded pace, 0 as fast as possible; ``rate`` bytes/s."""

    file: str
    format: Format = "csv"
    # A recording of events: csv and jsonl.
    time: TimeOf | None = None
    device: str = ""
    #: Of each channel its fields, and the column each is read from; ``schema`` names another schema than Reading.
    channels: dict[str, dict[str, str]] = {}
    speed: float = 1.0
    delimiter: str = ","
    # Captured bytes.
    link: str = ""
    rate: float = 960.0

    def __post_init__(self) -> None:
        if self.format == "bytes":
            self._check_bytes()
        else:
            self._check_events()

    def _check_events(self) -> None:
        for name, value in (("time", self.time), ("device", self.device), ("channels", self.channels)):
            if not value:
                raise ValueError(f"the field {name!r} is missing: format {self.format!r} needs it")
        if self.link:
            raise ValueError("'link' belongs to format 'bytes'")
        if not (0 <= self.speed < float("inf")):
            raise ValueError(f"speed: {self.speed} is not a factor on the recorded pace; 0 is as fast as possible")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n' or not self.delimiter.isascii():
            raise ValueError(f"delimiter: {self.delimiter!r} is not one character that can stand between cells")
        for name, fields in self.channels.items():
            if not fields.keys() - {"schema"}:
                raise ValueError(f'channels.{name}: names no field, such as {{value = "{name}"}}')

    def _check_bytes(self) -> None:
        if not self.link:
            raise ValueError("the field 'link' is missing: the path under which a reader finds the pseudo-terminal")
        if self.time or self.device or self.channels:
            raise ValueError("'time', 'device' and 'channels' belong to a recording of events, not to format 'bytes'")
        if not (0 < self.rate < float("inf")):
            raise ValueError(f"rate: {self.rate} is not a number of bytes per second")
