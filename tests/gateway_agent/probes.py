"""Drivers that do what tests need: count, crash, hang, outrun the disk, emit nonsense, execute commands."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from gateway_agent.driver import Channel, Command, CommandFailed, CommandSpec, Context, Driver
from schemas.errors import ConfigurationError, SchemaError


class CounterSettings(msgspec.Struct, frozen=True):
    count: int
    batch: int = 7
    pause: float = 0.0
    #: Kill the own process with this probability per batch, in percent.
    die: int = 0


class Counter(Driver[CounterSettings]):
    """Emits 0, 1, 2 … once each, whatever happens, and then is finished."""

    Settings = CounterSettings
    channels = (Channel("number"),)

    def run(self, context: Context) -> None:
        at = int(context.state.get("at", 0))
        while at < self.settings.count and not context.stopping:
            end = min(at + self.settings.batch, self.settings.count)
            with context.together():
                for number in range(at, end):
                    context.emit("counter", "number", event_time=number, value=float(number))
                context.state["at"] = end
            at = end
            if self.settings.pause:
                context.sleep(self.settings.pause)
            if self.settings.die and os.urandom(1)[0] * 100 < self.settings.die * 256:
                os.kill(os.getpid(), signal.SIGKILL)


class SeveralSettings(msgspec.Struct, frozen=True):
    channels: list[str]
    #: Finished when this file is there.
    until: str
    pause: float = 0.1


class Several(Driver[SeveralSettings]):
    """Emits 0, 1, 2 … once each on every channel, whatever happens, until it is told to finish."""

    Settings = SeveralSettings

    def __init__(self, settings: SeveralSettings) -> None:
        super().__init__(settings)
        self.channels = [Channel(name) for name in settings.channels]

    def run(self, context: Context) -> None:
        while context.sleep(self.settings.pause) and not Path(self.settings.until).exists():
            at = int(context.state.get("at", 0))
            with context.together():
                for number in range(at, at + 5):
                    for channel in self.channels:
                        context.emit("several", channel.name, event_time=number, value=float(number))
                context.state["at"] = at + 5


class Trouble(msgspec.Struct, frozen=True):
    kind: str
    times: int = 1 << 30
    tally: str = ""


class Troublesome(Driver[Trouble]):
    """Fails in the way it is told to, so many times; then it emits one event and waits."""

    Settings = Trouble
    channels = (Channel("number"),)
    watchdog = 1.5

    def __init__(self, settings: Trouble) -> None:
        super().__init__(settings)
        if settings.kind == "refuse":
            raise ConfigurationError("wrong together", remedy="set them right")
        if settings.kind == "slow-start":
            time.sleep(1.0)

    def run(self, context: Context) -> None:
        lives = Path(self.settings.tally)
        lived = len(lives.read_bytes()) if self.settings.tally and lives.exists() else 0
        if self.settings.tally:
            with lives.open("ab") as file:
                file.write(b".")
        if lived < self.settings.times:
            self._fail(context)
        context.emit("d", "number", value=float(lived))
        while context.sleep(60):
            pass

    def _fail(self, context: Context) -> None:
        match self.settings.kind:
            case "raise":
                raise RuntimeError("it has come loose")
            case "exit":
                os._exit(3)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "hold the interpreter":
                ctypes.PyDLL(None).sleep(3600)
            case "hang":
                time.sleep(3600)
            case "ignore stop":
                while True:
                    with contextlib.suppress(Exception):
                        context.sleep(0.05)
                    time.sleep(0.05)


class Many(msgspec.Struct, frozen=True):
    events: int


class Blaster(Driver[Many]):
    """Emits as fast as it can."""

    Settings = Many
    channels = (Channel("number"),)

    def run(self, context: Context) -> None:
        for number in range(self.settings.events):
            context.emit("blaster", "number", event_time=number, value=float(number))


class Nonsense(Driver[msgspec.Struct]):
    """Emits what does not fit, and notes what it is told."""

    channels = (Channel("number"), Channel("text", "Text"))

    def run(self, context: Context) -> None:
        attempts: list[dict[str, Any]] = [
            {"channel": "number"},
            {"channel": "number", "value": "much"},
            {"channel": "number", "value": 1.0, "vlaue": 2.0},
            {"channel": "nubmer", "value": 1.0},
            {"channel": "text", "value": 7},
        ]
        for attempt in attempts:
            try:
                context.emit("d", **attempt)
            except SchemaError as error:
                context.emit("d", "text", value=str(error))
        context.emit("d", "number", value=1.0)


class Speed(msgspec.Struct, frozen=True):
    rpm: int


class Actuator(Driver[msgspec.Struct]):
    """A fan that notes every command it executes in a file."""

    channels = (Channel("state", "State"),)
    commands = (CommandSpec("on"), CommandSpec("set_speed", Speed), CommandSpec("wait"), CommandSpec("break"), CommandSpec("die"))

    def devices(self) -> list[str]:
        return ["fan-1"]

    def run(self, context: Context) -> None:
        self._context = context
        context.emit("fan-1", "state", value=False)
        while context.sleep(60):
            pass

    def on_command(self, command: Command) -> object:
        with Path(os.environ["EXECUTED"]).open("a") as file:
            file.write(f"{command.id} {command.name}\n")
        match command.name:
            case "on":
                self._context.emit(command.device, "state", value=True)
                return {"on": True}
            case "set_speed":
                return {"rpm": command.args.rpm}
            case "wait":
                time.sleep(float(command.args["seconds"]))
                return None
            case "break":
                raise CommandFailed("the blade is stuck")
            case _:
                os.kill(os.getpid(), signal.SIGKILL)
                return None
