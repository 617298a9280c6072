"""Commands of rules, from where they were decided to their gateways' topics; and the record of them in the tables.

What rules have fired is on the job's disk (`pipelines.rule_memory`) before anything else sees it. From there commands are
published, by a thread for each broker, and what was done is recorded in the sinks, by another; all try again until they succeed
or the command's deadline passes, and none ever holds up a step of the pipeline. A command that could not be published before its
deadline is recorded as expired: its gateway would refuse it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import apache_beam as beam

from brokers.backoff import Backoff
from pipelines.command_brokers import FindBroker
from pipelines.command_line import PUBLISHED, REFUSED, CommandLine
from pipelines.command_rows import alert_rows, command_rows
from pipelines.rule_memory import PUBLISH, RECORD, JobRuleMemory, Pending
from pipelines.session import session_of
from pipelines.sinks import with_sink, write_rows
from schemas.errors import IoTCloudError
from schemas.topics import commands_topic
from storage import Sink
from storage.tables import ALERTS, COMMANDS
from telemetry.logs import logger
from transforms.admit import wall_clock
from transforms.rules.fired import Fired

#: Longest pause of a thread that nothing wakes, seconds.
_IDLE_SECONDS: Final = 1.0
_BATCH: Final = 1_000
#: Seconds that what is to be recorded gathers for: its transactions hold up those that decide.
_GATHER_SECONDS: Final = 0.2
MEMORY_FILE: Final = "rules.sqlite"
EXPIRED: Final = "expired"


class CommandOffice:
    """Works off what waits in ``memory``. ``counted`` is told what was done, by name and number."""

    def __init__(
        self,
        memory: JobRuleMemory,
        find_broker: FindBroker,
        sinks: Sequence[Sink],
        *,
        counted: Callable[[str, int], None] = lambda _name, _number: None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._memory = memory
        self._find_broker = find_broker
        self._sinks = tuple(sinks)
        self._counted = counted
        self._clock = clock
        self._stopping = threading.Event()
        self._publishing = threading.Event()
        self._recording = threading.Event()
        self._lines: dict[str, CommandLine] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(self._publish, self._publishing), name="commands", daemon=True),
            threading.Thread(target=self._run, args=(self._record, self._recording), name="records", daemon=True),
        ]
        memory.on_change(self._wake)
        for thread in self._threads:
            thread.start()

    def close(self, *, timeout: float = 10.0) -> int:
        """Work off what can be within ``timeout`` seconds, then stop. Returns how much is left for the job's next life."""
        until = time.monotonic() + timeout
        self._wake()
        while (left := self._left()) and time.monotonic() < until:
            self._stopping.wait(0.02)
        self._stopping.set()
        self._wake()
        for thread in self._threads:
            thread.join(timeout=_IDLE_SECONDS)
        for line in self._lines.values():
            line.close()
        if left:
            logger("commands").warning("left for the next run", commands_and_alerts=left)
        return left

    def _left(self) -> int:
        return len(self._memory.pending(PUBLISH)) + len(self._memory.pending(RECORD))

    def _wake(self) -> None:
        self._publishing.set()
        self._recording.set()

    def _published(self, outcome: str, number: int) -> None:
        if number:
            self._counted("commands" if outcome == PUBLISHED else f"commands_{outcome}", number)
        self._wake()

    def _run(self, work: Callable[[], float], wake: threading.Event) -> None:
        backoff = Backoff(first=0.1, longest=10.0)
        while not self._stopping.is_set():
            wake.clear()
            try:
                wake.wait(work())
                backoff.reset()
            except IoTCloudError as error:
                pause = backoff.next()
                logger("commands").error("trying again", pause=round(pause, 2), error=str(error))
                self._stopping.wait(pause)

    def _publish(self) -> float:
        """Give what waits to the brokers' lines. Returns seconds until the next look."""
        by_broker: dict[str, list[Pending]] = {}
        # Once a look: a broker found half way would have a gateway's later commands before its earlier ones.
        asked: dict[str, str] = {}
        for found in self._waiting():
            if url := self._broker_of(found, asked):
                by_broker.setdefault(url, []).append(found)
        pause = _IDLE_SECONDS
        for url, waiting in by_broker.items():
            line = self._lines.get(url)
            if line is None:
                line = self._lines[url] = CommandLine(url, self._memory, self._clock, self._published)
            pause = min(pause, line.give(waiting))
        return pause

    def _waiting(self) -> Iterator[Pending]:
        after = 0
        while batch := self._memory.pending(PUBLISH, after=after, most=_BATCH):
            yield from batch
            after = batch[-1].number

    def _broker_of(self, found: Pending, asked: dict[str, str]) -> str:
        """Empty when it is too late, or the broker is not known now."""
        command = found.fired.command
        assert command is not None, "only what has a command waits to be published"
        if command.deadline <= self._clock():
            self._memory.ordered([found.number], EXPIRED, detail="its deadline passed before it could be published")
            self._published(EXPIRED, 1)
            return ""
        try:
            # A name out of an event's columns may be anything.
            commands_topic(command.gateway)
        except IoTCloudError as error:
            self._memory.ordered([found.number], REFUSED, detail=error.message)
            self._published(REFUSED, 1)
            return ""
        if command.gateway not in asked:
            try:
                asked[command.gateway] = self._find_broker(command.gateway)
            except IoTCloudError as error:
                logger("commands").warning("broker not known", gateway=command.gateway, error=str(error))
                asked[command.gateway] = ""
        return asked[command.gateway]

    def _record(self) -> float:
        if self._memory.pending(RECORD, most=1):
            self._stopping.wait(_GATHER_SECONDS)
        while batch := self._memory.pending(RECORD, most=_BATCH):
            write_rows(self._sinks, {COMMANDS.name: command_rows(batch), ALERTS.name: alert_rows(batch)})
            self._memory.recorded([found.number for found in batch])
            self._counted("rows_alerts", sum(found.fired.alert for found in batch))
        return _IDLE_SECONDS


@dataclass(frozen=True)
class CommandSettings:
    """What a job's rules need to act; it goes through pickle with the pipeline."""

    job: str
    find_broker: FindBroker
    #: URLs of the sinks that commands and alerts are recorded in.
    sinks: tuple[str, ...] = ()
    #: The job's directory; None for a job that remembers nothing beyond its life.
    state: Path | None = None

    @property
    def open_memory(self) -> Callable[[], JobRuleMemory]:
        """For `transforms.rules.EventRules` and `WindowRules`."""
        return partial(memory_of, self.job, self.state)


class PublishCommands(beam.PTransform):
    """`Fired` in; a collection out that stays empty, whose watermark says what has been decided and is on the job's disk."""

    def __init__(self, settings: CommandSettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, fired: Any) -> Any:
        return fired | "Order" >> beam.ParDo(_Order(self._settings)).with_output_types(bytes)


class _Order(beam.DoFn):
    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        open_commands(self._settings)

    def process(self, fired: Fired) -> Iterator[bytes]:
        # The rules have put it there already, when they have the same memory.
        memory = memory_of(self._settings.job, self._settings.state)
        if not memory.knows(fired.id):
            memory.commit(fired.rule, {}, [fired])
        session_of(self._settings.job).counts.add(f"rules_{fired.change}")
        yield from ()


def open_commands(settings: CommandSettings) -> CommandOffice:
    """The office of a job in this process; made, and what was left by an earlier life taken up, when first asked for."""
    with _MAKING:
        return _office(settings)


def close_commands(settings: CommandSettings, *, timeout: float = 10.0) -> int:
    """Work off what can be, then let go. Returns how much is left for the job's next life. The job must have ended."""
    left = open_commands(settings).close(timeout=timeout)
    memory_of(settings.job, settings.state).close()
    with _MAKING:
        _office.cache_clear()
        _memory.cache_clear()
    return left


def memory_of(job: str, state: Path | None) -> JobRuleMemory:
    """The memory of a job in this process."""
    with _MAKING:
        return _memory(job, state)


#: A cache does not keep two threads from making the same thing.
_MAKING: Final = threading.RLock()


@lru_cache(maxsize=16)
def _memory(job: str, state: Path | None) -> JobRuleMemory:  # noqa: ARG001  (jobs without a directory have one each)
    return JobRuleMemory(state / MEMORY_FILE if state is not None else None)


@lru_cache(maxsize=16)
def _office(settings: CommandSettings) -> CommandOffice:
    return CommandOffice(
        _memory(settings.job, settings.state),
        settings.find_broker,
        [with_sink(url) for url in settings.sinks],
        counted=session_of(settings.job).counts.add,
    )
