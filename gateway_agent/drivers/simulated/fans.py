"""All fans of an application: commands in, states out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from gateway_agent.driver import Command, CommandFailed, Context
from gateway_agent.drivers.simulated.fan import DEFAULT_RPM, Fan

_STATE: Final = "wanted_rpm"
#: Seconds a command waits for the fans to be started, if its deadline is not earlier.
_START_WITHIN: Final = 10.0


class Fans:
    """Commands come from another thread than the one that turns the fans."""

    def __init__(self, names: Sequence[str]) -> None:
        self._fans = {name: Fan() for name in names}
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._started = threading.Event()
        self._turned = time.monotonic()

    def start(self, context: Context) -> None:
        """Tell the state of every fan. A fan goes on as it was told before, whatever became of the process between."""
        with self._lock:
            self._context = context
            for name, wanted in context.state.get(_STATE, {}).items():
                if name in self._fans:
                    self._fans[name] = Fan(wanted, wanted)
        for name, fan in self._fans.items():
            context.emit(name, "state", value=fan.on)
        self._started.set()

    def turn(self) -> None:
        """Let time pass for all fans, and tell the speed of those that change."""
        with self._lock:
            now = time.monotonic()
            passed, self._turned = now - self._turned, now
            speeds = [(name, round(fan.spin(passed), 1)) for name, fan in self._fans.items() if fan.changing]
            context = self._context
        # Not while commands are locked out: emitting waits for as long as the outbox is full.
        for name, rpm in speeds:
            if context:
                context.emit(name, "rpm", value=rpm)

    def execute(self, command: Command) -> object:
        """Carry out on, off or set_speed; the fan's wanted speed then. Raises `CommandFailed`."""
        match command.name:
            case "on":
                wanted = None
            case "off":
                wanted = 0.0
            case "set_speed":
                wanted = float(command.args.rpm)
            case other:
                raise CommandFailed(f"no command {other!r}", remedy="a fan takes on, off and set_speed")
        # The first command may be there before the fans are.
        if not self._started.wait(min(_START_WITHIN, _left(command))):
            raise CommandFailed("the fans do not run yet", remedy="try again")
        with self._before_deadline(command):
            fan, context = self._fans.get(command.device), self._context
            if fan is None or context is None:
                raise CommandFailed(f"no fan {command.device!r}", remedy="there are " + ", ".join(self._fans))
            was_on = fan.on
            fan.wanted = (fan.wanted or DEFAULT_RPM) if wanted is None else wanted
            with context.together():
                if fan.on != was_on:
                    context.emit(command.device, "state", value=fan.on)
                context.state[_STATE] = {name: one.wanted for name, one in self._fans.items()}
            return {"on": fan.on, "rpm": fan.wanted}

    @contextmanager
    def _before_deadline(self, command: Command) -> Iterator[None]:
        """The lock, if it is to be had before the command's deadline. Raises `CommandFailed`."""
        left = _left(command)
        if not left or not self._lock.acquire(timeout=left):
            raise CommandFailed("its turn came after its deadline")
        try:
            yield
        finally:
            self._lock.release()


def _left(command: Command) -> float:
    """Seconds to the command's deadline, or 0."""
    return max(0.0, command.deadline / 1_000_000 - time.time())
