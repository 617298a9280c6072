"""What is simulated."""

from __future__ import annotations

from typing import Annotated

import msgspec

from settings import Seconds

Positive = Annotated[float, msgspec.Meta(gt=0, le=100_000)]


class SimulatedSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Settings of the simulated driver; its README explains each. Temperatures are in °C."""

    #: How many (then named sensor-1, sensor-2 …), or their names.
    sensors: int | tuple[str, ...] = 0
    rate: Positive = 1.0
    fans: tuple[str, ...] = ()
    seed: int = 1
    mean: float = 20.0
    swing: float = 8.0
    period: Seconds = Seconds(86_400)
    inertia: Seconds = Seconds(600)
    noise: float = 0.1

    def __post_init__(self) -> None:
        names = [*self.sensor_names, *self.fans]
        if not names:
            raise ValueError("there is nothing to simulate: give 'sensors' or 'fans'")
        if isinstance(self.sensors, int) and not 0 <= self.sensors <= 10_000:
            raise ValueError("sensors: 0 to 10000 of them, or a list of names")
        if "" in names or len(set(names)) != len(names):
            raise ValueError("a device has no name, or two have the same")
        if self.noise < 0 or not self.period:
            raise ValueError("'noise' must not be negative, and 'period' not zero")

    @property
    def sensor_names(self) -> tuple[str, ...]:
        if isinstance(self.sensors, int):
            return tuple(f"sensor-{number}" for number in range(1, self.sensors + 1))
        return self.sensors


class SpeedArguments(msgspec.Struct, frozen=True):
    """``rpm`` revolutions per minute."""

    rpm: Annotated[float, msgspec.Meta(ge=0, le=3_000)]


class NoArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For commands that take none."""
