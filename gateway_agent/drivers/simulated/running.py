"""Samples on schedule, for as long as the driver runs."""

from __future__ import annotations

import time
from typing import Final

from gateway_agent.driver import Context, Event
from gateway_agent.drivers.simulated.fans import Fans
from gateway_agent.drivers.simulated.settings import SimulatedSettings
from gateway_agent.drivers.simulated.thermometer import Thermometer

#: Shortest pause in seconds: samples due in between are emitted together.
_GRAIN: Final = 0.02
#: Seconds between looks at the fans.
_TURN: Final = 0.2
#: Seconds that the wall clock may be off the schedule.
_CLOCK_STEP: Final = 0.5
#: Seconds of samples that are made up for after the disk was behind; older ones are never taken.
_ARREARS: Final = 1.0


def simulate(context: Context, settings: SimulatedSettings, fans: Fans) -> None:
    """Emit readings of all sensors at ``rate`` and turn the fans, until the context is stopping."""
    sensors = [(name, Thermometer(settings, name)) for name in settings.sensor_names]
    fans.start(context)
    period = 1 / settings.rate
    begun = time.monotonic()
    wall = time.time() - begun
    taken = 0
    while not context.stopping:
        now = time.monotonic()
        # Event times are those of the schedule, as long as nobody sets the clock.
        if abs(time.time() - now - wall) > _CLOCK_STEP:
            wall = time.time() - now
        due = int((now - begun) / period) + 1 if sensors else 0
        late = due - taken - max(1, int(_ARREARS / period))
        if late > 0:
            context.log.warning("samples were not taken: the outbox is behind", samples=late * len(sensors))
            taken += late
        for sample in range(taken, due):
            at = wall + begun + sample * period
            events: list[Event] = [
                (name, "temperature", int(at * 1_000_000), {"value": sensor.read(at)}) for name, sensor in sensors
            ]
            context.emit_many(events)
        taken = max(taken, due)
        fans.turn()
        next_sample = begun + taken * period - time.monotonic() if sensors else _TURN
        context.sleep(min(_TURN, max(_GRAIN, next_sample)) if settings.fans else max(_GRAIN, next_sample))
