"""A driver that sends blobs through the cells of the grid, one after another, and notes when each comes back as a command."""

from __future__ import annotations

import random
import string
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import percentile
from benchmarks.round_trips.cells import ENOUGH, Cell, Outcome
from gateway_agent.driver import Channel, Command, CommandSpec, Context, Driver

#: Digits before the content that say which message it is.
_DIGITS: Final = 12
#: Seconds for all to start, between attempts meanwhile, and for what is on its way when a cell ends.
_START: Final = 60.0
_ATTEMPT: Final = 1.0
_DRAIN: Final = 10.0
#: A cell is given up when so many seconds' worth of messages, and some, are on their way.
_BEHIND: Final = 1.5
_SOME: Final = 10


class Settings(msgspec.Struct, frozen=True):
    """``seconds`` of each cell; outcomes go to the file ``out``, one JSON object a line."""

    cells: tuple[Cell, ...]
    seconds: float
    out: str


class Echo(msgspec.Struct, frozen=True):
    content: str


class GridDriver(Driver[Settings]):
    """Channel ``blob``; command ``echo``. A client is a device."""

    Settings = Settings
    channels = (Channel("blob", schema="Blob", direction="both"),)
    commands = (CommandSpec("echo", Echo),)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._number = 0
        self._on_way: dict[int, float] = {}
        #: Of the cell at hand: when each came back, and how many seconds it took.
        self._back: list[tuple[float, float]] = []
        self._changed = threading.Condition()

    def devices(self) -> tuple[str, ...]:
        return tuple(map(_client, range(max(cell.clients for cell in self.settings.cells))))

    def run(self, context: Context) -> None:
        out = Path(self.settings.out)
        self._wait_for_start(context)
        failed: list[Cell] = []
        for cell in self.settings.cells:
            if any(one.size == cell.size and one.total_rate <= cell.total_rate for one in failed):
                outcome = Outcome(cell=cell, problem="not tried: less was too much")
            else:
                outcome = self._measure(context, cell)
                if outcome.problem:
                    # Once more: the machine may have had something else to do.
                    again = msgspec.structs.replace(self._measure(context, cell), tries=2)
                    outcome = max(again, outcome, key=lambda one: (not one.problem, one.reached))
            if context.stopping:
                return
            if outcome.problem:
                failed.append(cell)
            with out.open("ab") as file:
                file.write(msgspec.json.encode(outcome) + b"\n")

    def on_command(self, command: Command) -> object:
        now = time.monotonic()
        with self._changed:
            sent = self._on_way.pop(int(command.args.content[:_DIGITS]), None)
            if sent is not None:
                self._back.append((now, now - sent))
                self._changed.notify_all()
        return None

    def _wait_for_start(self, context: Context) -> None:
        """Until a message comes back: the processing has found the topic, and the commands the gateway."""
        until = time.monotonic() + _START
        while not self._back and time.monotonic() < until and not context.stopping:
            self._send(context, 0, "")
            context.flush(_ATTEMPT)
            with self._changed:
                self._changed.wait_for(lambda: self._back, timeout=_ATTEMPT)
        self._drain(context)

    def _measure(self, context: Context, cell: Cell) -> Outcome:
        filler = "".join(random.choices(string.ascii_letters, k=cell.size - _DIGITS))
        with self._changed:
            self._on_way.clear()
            self._back.clear()
        wanted = max(2, round(self.settings.seconds * cell.total_rate))
        begun = time.monotonic()
        last = begun
        sent = 0
        problem = ""
        while sent < wanted:
            if not context.sleep(max(0.0, begun + sent / cell.total_rate - time.monotonic())):
                break
            if len(self._on_way) > _SOME + _BEHIND * cell.total_rate or time.monotonic() - begun > 2 * self.settings.seconds + 1:
                problem = "fell behind"
                break
            last = time.monotonic()
            self._send(context, sent % cell.clients, filler)
            sent += 1
        self._drain(context)
        return self._outcome(cell, sent, last - begun, problem)

    def _outcome(self, cell: Cell, sent: int, seconds: float, problem: str) -> Outcome:
        with self._changed:
            came, took = [at for at, _ in self._back], [1e3 * seconds for _, seconds in self._back]
        if len(came) < 2:
            return Outcome(cell=cell, sent=sent, back=len(came), problem=problem or "did not come back")
        reached = (len(came) - 1) / max(seconds, max(came) - min(came))
        if not problem and len(came) < sent:
            problem = f"{sent - len(came)} did not come back"
        if not problem and reached < ENOUGH * cell.total_rate:
            problem = f"{reached:.0f}/s of {cell.total_rate}/s"
        p50, p95, p99 = (round(percentile(took, fraction), 2) for fraction in (0.5, 0.95, 0.99))
        return Outcome(
            cell=cell, sent=sent, back=len(came), reached=round(reached, 1), p50=p50, p95=p95, p99=p99, problem=problem
        )

    def _send(self, context: Context, client: int, filler: str) -> None:
        number = self._number
        self._number += 1
        value = f"{number:0{_DIGITS}}{filler}".encode()
        with self._changed:
            self._on_way[number] = time.monotonic()
        context.emit(_client(client), "blob", content_type="text/plain", value=value)

    def _drain(self, context: Context) -> None:
        """Wait for what is on its way."""
        until = time.monotonic() + _DRAIN
        context.flush(_DRAIN)
        with self._changed:
            while self._on_way and time.monotonic() < until and not context.stopping:
                self._changed.wait(0.2)


def _client(number: int) -> str:
    return f"client-{number}"
