"""Reads a device on a serial line: NMEA sentences, UBX frames, lines of text; writes to it on command."""

from __future__ import annotations

from gateway_agent.driver import Channel, Command, CommandFailed, CommandSpec, Context, Driver
from gateway_agent.drivers.serial.settings import SerialSettings, WriteArguments

__all__ = ["driver"]

#: What each framing can tell.
_CHANNELS = {
    "nmea": (Channel("sentences", "Text"), Channel("position", "Position")),
    "ubx": (Channel("position", "Position"),),
    "line": (Channel("lines", "Text"),),
}


class Serial(Driver[SerialSettings]):
    """One device on one port."""

    Settings = SerialSettings
    commands = (CommandSpec("write", WriteArguments),)

    def __init__(self, settings: SerialSettings) -> None:
        super().__init__(settings)
        self.channels = tuple(dict.fromkeys(channel for name in settings.framing for channel in _CHANNELS[name]))
        from gateway_agent.drivers.serial.reading import Line
        from gateway_agent.serial_port import finder

        finder(settings.port)  # a port that cannot be is refused now
        self._line = Line(settings)

    def devices(self) -> tuple[str, ...]:
        return (self.settings.device,)

    def run(self, context: Context) -> None:
        self._line.run(context)

    def on_command(self, command: Command) -> object:
        if command.device != self.settings.device:
            raise CommandFailed(f"no device {command.device!r} on this line", remedy=f"its device is {self.settings.device!r}")
        if command.name != "write":
            raise CommandFailed(f"no command {command.name!r}", remedy="the command is 'write'")
        return self._line.write(command.args, deadline=command.deadline)


driver: type[Driver[SerialSettings]] = Serial
