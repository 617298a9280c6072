"""A driver that measures round trips: it emits numbered events and notes when a command with the number comes back."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import msgspec

from gateway_agent.driver import Channel, Command, CommandSpec, Context, Driver


class Settings(msgspec.Struct, frozen=True):
    """``rate`` events per second, ``count`` in all; round trips in seconds go to the file ``out`` as JSON."""

    rate: float
    count: int
    out: str
    #: Events before those that count, while everything starts.
    warm_up: int


class EchoArguments(msgspec.Struct, frozen=True):
    number: float


class EchoDriver(Driver[Settings]):
    """Channel ``ping``; command ``echo``."""

    Settings = Settings
    channels = (Channel("ping"),)
    commands = (CommandSpec("echo", EchoArguments),)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._sent: dict[int, float] = {}
        self._took: dict[int, float] = {}
        self._all_back = threading.Event()

    def devices(self) -> tuple[str, ...]:
        return ("echo-1",)

    def run(self, context: Context) -> None:
        total = self.settings.warm_up + self.settings.count
        due = time.monotonic()
        for number in range(total):
            due += 1 / self.settings.rate
            if not context.sleep(max(0.0, due - time.monotonic())):
                return
            self._sent[number] = time.monotonic()
            context.emit("echo-1", "ping", value=float(number))
        deadline = time.monotonic() + 30
        while not self._all_back.is_set() and time.monotonic() < deadline:
            if not context.sleep(0.05):
                return
        took = [self._took.get(number) for number in range(self.settings.warm_up, total)]
        part = Path(self.settings.out + ".part")
        part.write_text(json.dumps(took), encoding="utf-8")
        part.rename(self.settings.out)

    def on_command(self, command: Command) -> object:
        number = int(command.args.number)
        self._took.setdefault(number, time.monotonic() - self._sent[number])
        if len(self._took) == self.settings.warm_up + self.settings.count:
            self._all_back.set()
        return None
