"""Simulated devices: thermometers with a physical model, and fans that take commands."""

from __future__ import annotations

from gateway_agent.driver import Channel, Command, CommandSpec, Context, Driver
from gateway_agent.drivers.simulated.settings import NoArguments, SimulatedSettings, SpeedArguments

__all__ = ["driver"]


class Simulated(Driver[SimulatedSettings]):
    """Sensors and fans of one application."""

    Settings = SimulatedSettings

    def __init__(self, settings: SimulatedSettings) -> None:
        super().__init__(settings)
        from gateway_agent.drivers.simulated.fans import Fans

        self._fans = Fans(settings.fans)
        sensors = (Channel("temperature"),) if settings.sensor_names else ()
        fans = (Channel("state", "State"), Channel("rpm")) if settings.fans else ()
        self.channels = (*sensors, *fans)
        if settings.fans:
            self.commands = (
                CommandSpec("on", NoArguments),
                CommandSpec("off", NoArguments),
                CommandSpec("set_speed", SpeedArguments),
            )

    def devices(self) -> tuple[str, ...]:
        return (*self.settings.sensor_names, *self.settings.fans)

    def run(self, context: Context) -> None:
        from gateway_agent.drivers.simulated.running import simulate

        simulate(context, self.settings, self._fans)

    def on_command(self, command: Command) -> object:
        return self._fans.execute(command)


driver: type[Driver[SimulatedSettings]] = Simulated
