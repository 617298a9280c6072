"""The simulated driver: sensors on schedule after a physical model, fans that obey."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest

from gateway_agent.driver import Command, CommandFailed
from gateway_agent.drivers.simulated.settings import NoArguments, SimulatedSettings, SpeedArguments
from gateway_agent.drivers.simulated.thermometer import Thermometer
from tests.gateway_agent.drivers.context import KeepingContext, eventually
from tests.gateway_agent.drivers.kit import make, refusal


@contextlib.contextmanager
def running(
    toml: str, stored: dict[str, Any] | None = None, context: KeepingContext | None = None
) -> Iterator[tuple[Any, KeepingContext]]:
    driver, context = make("simulated", toml), context or KeepingContext(stored=stored)
    thread = threading.Thread(target=driver.run, args=(context,))
    thread.start()
    try:
        yield driver, context
    finally:
        context.stop()
        thread.join(20)
        assert not thread.is_alive()


def order(name: str, args: Any = None, device: str = "fan-1", within: float = 20.0) -> Command:
    deadline = time.time_ns() // 1_000 + round(within * 1_000_000)
    return Command("c", device, name, NoArguments() if args is None else args, deadline)


def on_channel(context: KeepingContext, channel: str) -> list[Any]:
    return [fields["value"] for _, name, _, fields in list(context.emitted) if name == channel]


def test_the_room_follows_the_day_late_and_less_than_the_air_outside() -> None:
    """A lag of a quarter day behind the wave: its peak comes later and is lower, by the formula of a first-order lag."""
    settings = SimulatedSettings(sensors=1, noise=0.0, inertia=21_600.0, swing=8.0, mean=20.0)  # type: ignore[arg-type]
    room = Thermometer(settings, "a")
    readings = [(minute * 60.0, room.read(minute * 60.0)) for minute in range(60 * 24 * 4)]
    last_day = readings[-60 * 24 :]
    # Gain 1/√(1 + (ω·inertia)²) and lag atan(ω·inertia)/ω, with ω of a day.
    highest = max(value for _, value in last_day)
    mean = fmean(value for _, value in last_day)
    assert highest - mean == pytest.approx(8.0 / (1 + (2 * 3.14159 / 86_400 * 21_600) ** 2) ** 0.5, rel=0.02)
    peak = next(time for time, value in last_day if value == highest) % 86_400
    assert peak / 3600 == pytest.approx(15 + 3.836, abs=0.2)


def test_the_same_seed_gives_the_same_readings_and_each_sensor_its_own() -> None:
    def readings(seed: int, name: str) -> list[float]:
        sensor = Thermometer(SimulatedSettings(sensors=1, seed=seed), name)
        return [sensor.read(float(second)) for second in range(100)]

    assert readings(1, "a") == readings(1, "a")
    assert readings(1, "a") != readings(1, "b")
    assert readings(1, "a") != readings(2, "a")


def test_every_sensor_is_read_at_its_rate_on_schedule() -> None:
    with running('sensors = "3"\nrate = 200') as (driver, context):
        eventually(lambda: len(context.emitted) >= 600)
    assert list(driver.devices()) == ["sensor-1", "sensor-2", "sensor-3"]
    times: dict[str, list[int]] = {name: [] for name in driver.devices()}
    for device, channel, at, _ in context.emitted:
        assert channel == "temperature"
        times[device].append(int(at))  # type: ignore[arg-type]
    assert len({tuple(one) for one in times.values()}) == 1
    found = times["sensor-1"]
    assert {round((after - before) / 1_000) for before, after in pairwise(found)} == {5}


def test_a_fan_tells_its_state_at_the_start_and_at_each_change_only() -> None:
    with running('fans = ["fan-1"]') as (driver, context):
        eventually(lambda: context.emitted)
        assert driver.on_command(order("on")) == {"on": True, "rpm": 1_200.0}
        assert driver.on_command(order("on")) == {"on": True, "rpm": 1_200.0}
        assert driver.on_command(order("set_speed", SpeedArguments(rpm=900.0))) == {"on": True, "rpm": 900.0}
        assert driver.on_command(order("off")) == {"on": False, "rpm": 0.0}
        assert driver.on_command(order("set_speed", SpeedArguments(rpm=300.0))) == {"on": True, "rpm": 300.0}
        assert on_channel(context, "state") == [False, True, False, True]


@pytest.mark.slow
def test_a_fan_takes_its_time_and_then_is_silent() -> None:
    with running('fans = ["fan-1"]') as (driver, context):
        eventually(lambda: context.emitted)
        driver.on_command(order("set_speed", SpeedArguments(rpm=20.0)))
        eventually(lambda: on_channel(context, "rpm")[-1:] == [20.0])
        count = len(context.slept)
        eventually(lambda: len(context.slept) > count + 2)
    rpm = on_channel(context, "rpm")
    assert rpm == sorted(rpm)
    assert rpm.count(20.0) == 1
    assert len(rpm) > 3


def test_a_fan_goes_on_as_it_was_told_before_a_restart() -> None:
    with running('fans = ["fan-1", "fan-2"]') as (driver, context):
        eventually(lambda: context.emitted)
        driver.on_command(order("on", device="fan-2"))
    with running('fans = ["fan-1", "fan-2"]', stored=context.stored) as (driver, again):
        eventually(lambda: len(again.emitted) >= 2)
        assert [(device, fields["value"]) for device, _, _, fields in again.emitted] == [("fan-1", False), ("fan-2", True)]


def test_a_full_outbox_keeps_no_command_from_its_fan() -> None:
    """The speed that a fan tells waits for room; meanwhile commands are executed."""
    stuck, room = threading.Event(), threading.Event()

    class Full(KeepingContext):
        def emit(self, device: str, channel: str, *, event_time: Any = None, **fields: Any) -> None:
            if channel == "rpm":
                stuck.set()
                room.wait(20)
            super().emit(device, channel, event_time=event_time, **fields)

    with running('fans = ["fan-1"]', context=Full()) as (driver, _):
        driver.on_command(order("on"))
        assert stuck.wait(20)
        try:
            assert driver.on_command(order("off", within=5.0)) == {"on": False, "rpm": 0.0}
            assert not room.is_set()
        finally:
            room.set()


@pytest.mark.parametrize("within", [-1.0, 0.05])
def test_a_command_whose_turn_does_not_come_before_its_deadline_is_not_executed(within: float) -> None:
    with running('fans = ["fan-1"]') as (driver, context):
        driver.on_command(order("off"))
        with driver._fans._lock, pytest.raises(CommandFailed, match="after its deadline"):
            driver.on_command(order("on", within=within))
        assert on_channel(context, "state") == [False]


def test_orders_that_no_fan_can_follow_say_why() -> None:
    driver = make("simulated", 'fans = ["fan-1"]')
    with pytest.raises(CommandFailed, match="do not run yet"):
        driver.on_command(order("on", within=0.05))
    with running('fans = ["fan-1"]') as (driver, context):
        eventually(lambda: context.emitted)
        with pytest.raises(CommandFailed, match="no command 'explode'"):
            driver.on_command(order("explode"))
        with pytest.raises(CommandFailed, match="no fan 'fan-9'"):
            driver.on_command(order("on", device="fan-9"))


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("", "nothing to simulate"),
        ("sensors = -1", "sensors"),
        ("sensors = 1\nrate = 0", "settings.rate"),
        ('sensors = ["a", "a"]', "two have the same"),
        ('sensors = ["a"]\nfans = ["a"]', "two have the same"),
        ("sensor = 1", "did you mean 'sensors'?"),
        ('fans = "fan-1"', "settings.fans"),
    ],
)
def test_wrong_settings_are_refused_by_the_name_of_the_field(toml: str, problem: str) -> None:
    assert problem in refusal("simulated", toml)
