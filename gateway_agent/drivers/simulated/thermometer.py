"""A thermometer in a room that follows the day slowly."""

from __future__ import annotations

import math
import random

from gateway_agent.drivers.simulated.settings import SimulatedSettings


class Thermometer:
    """A first-order lag behind a daily wave, plus the noise of the sensor. The same seed gives the same noise.

    The room's temperature T follows dT/dt = (outside - T) / inertia, with outside = mean + swing × a sine of ``period``
    that is highest at five eighths of it (3 p.m. UTC where the period is a day).
    """

    def __init__(self, settings: SimulatedSettings, name: str) -> None:
        self._settings = settings
        self._random = random.Random(f"{settings.seed} {name}")
        # No two places are the same.
        self._offset = self._random.gauss(0.0, settings.swing / 10)
        self._room: float | None = None
        self._time = 0.0

    def read(self, time: float) -> float:
        """What it shows at ``time``, seconds since 1970; times must not fall."""
        outside = self._outside(time)
        if self._room is None or not self._settings.inertia:
            self._room = outside
        else:
            passed = max(0.0, time - self._time)
            self._room += (outside - self._room) * -math.expm1(-passed / self._settings.inertia)
        self._time = time
        return round(self._room + self._random.gauss(0.0, self._settings.noise), 3)

    def _outside(self, time: float) -> float:
        settings = self._settings
        phase = 2 * math.pi * (time / settings.period - 0.375)
        return settings.mean + self._offset + settings.swing * math.sin(phase)
