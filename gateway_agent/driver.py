"""What a driver is: a typed class that declares settings, channels and commands, and runs in a process of its own.

A minimal driver::

    class Settings(msgspec.Struct, frozen=True):
        path: str
        every: Seconds = Seconds(10)

    class Thermometer(Driver[Settings]):
        Settings = Settings
        channels = (Channel("temperature"),)

        def run(self, context: Context) -> None:
            while not context.stopping:
                context.emit("board", "temperature", value=float(Path(self.settings.path).read_text()) / 1000)
                context.sleep(self.settings.every)

Times are µs since 1970, UTC, as integers, or aware datetimes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from schemas.errors import IoTCloudError
from schemas.rpc import Direction

if TYPE_CHECKING:
    from gateway_agent.serial_port import SerialPort

#: Device, channel, event time (None: now) and fields of an event.
Event = tuple[str, str, "datetime | int | None", Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a driver. ``schema`` is the name of a shipped event schema, a path to an ``.avsc`` file, or its JSON text."""

    name: str
    schema: str = "Reading"
    direction: Direction = "in"


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command that the driver's devices take. ``args`` is a msgspec Struct or a JSON schema of an object."""

    name: str
    args: type[msgspec.Struct] | Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """A command to execute. ``args`` is an instance of the declared Struct, or a dict."""

    id: str
    device: str
    name: str
    args: Any
    deadline: int


class CommandFailed(IoTCloudError):
    """Raise it in `Driver.on_command`: the device did not do it, for the reason given."""


class Stopped(Exception):
    """Raised out of the context when the agent is gone or will not wait any longer. Let it pass."""


class NoSettings(msgspec.Struct, frozen=True):
    """For a driver without settings."""


class Log(Protocol):
    """Lines for the agent's log."""

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...


class Context(Protocol):
    """What a driver is given to run with. All of it may be used from any of its threads."""

    @property
    def log(self) -> Log: ...

    @property
    def stopping(self) -> bool:
        """Whether `Driver.run` should return soon."""

    @property
    def state(self) -> MutableMapping[str, Any]:
        """Small (64 kB) and durable: JSON values by name, as they were when the process before this one ended.

        What is stored is committed in the same transaction as the events emitted before it, or in a later one: after a
        crash the state is never ahead of the events. It is not behind them either where both happen in `together`.
        """

    def emit(self, device: str, channel: str, *, event_time: datetime | int | None = None, **fields: Any) -> None:
        """Emit an event. Waits while the outbox is behind.

        Raises `schemas.errors.SchemaError` when the fields do not fit the channel's schema, naming what is wrong.
        """

    def emit_many(self, events: Iterable[Event]) -> None:
        """Emit events in one go: faster. When one of them does not fit its channel's schema, none is taken.

        Up to 1,000 events of up to 2 MB are one transaction, more are several; in `together` all of them belong to that.
        """

    def together(self) -> AbstractContextManager[None]:
        """What is emitted and stored inside becomes durable as a whole, or not at all: not after an exception, say.

        At most 4 MB. Other threads wait meanwhile.
        """

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was emitted is on the agent's disk. False after ``timeout`` seconds."""

    def sleep(self, seconds: float) -> bool:
        """Sleep; True after that time, False at once when stopping."""

    def reject(self, where: str, reason: str) -> None:
        """Count and report input that could not be made into events; ``where`` as exact as can be, such as file:line."""

    def serial(self, port: str, *, baud: int = 9600, **options: Any) -> SerialPort:
        """Open a serial port that comes back by itself when the device does. See `gateway_agent.serial_port`."""


S = TypeVar("S", bound=msgspec.Struct)


class Driver(ABC, Generic[S]):
    """Base of all drivers. One instance per application; it may serve many devices.

    Made with its settings, already checked. Raise `schemas.errors.ConfigurationError` from `__init__` for settings that
    are wrong together: the application is then refused, not started again.
    """

    Settings: ClassVar[type[msgspec.Struct]] = NoSettings
    #: May be a property where channels follow from settings.
    channels: Sequence[Channel] = ()
    commands: Sequence[CommandSpec] = ()
    #: Seconds after which `run` counts as hung when it has not used its context. None: it may block as long as it likes.
    watchdog: float | None = None

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def devices(self) -> Sequence[str]:
        """Devices known before they emit anything, so that commands find them."""
        return ()

    @abstractmethod
    def run(self, context: Context) -> None:
        """Read devices and emit events until ``context.stopping``. Returning earlier means: finished, nothing more will come.

        An exception ends the process; it is started again after a pause.
        """

    def on_command(self, command: Command) -> object:
        """Execute a command and return its result as JSON, or raise `CommandFailed`.

        Called in a thread beside `run`, one command at a time, and not before `run` has emitted, slept, or looked at
        ``context.stopping`` for the first time.
        """
        raise CommandFailed(f"{type(self).__name__} executes no command {command.name!r}")
