"""Commands from the broker to devices: each at most once, none after its deadline, and what became of it is told.

The order of writing is what makes this true: a delivery is acknowledged when its command is in the journal, and
a command is handed to the driver when the journal says `started`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from brokers import Broker, BrokerRefused, Delivery, Message, PublishError, QueueReader
from brokers.backoff import Backoff
from brokers.contract import Publisher
from brokers.subscription import subscribe
from gateway_agent.host.messages import Execute, Executed
from gateway_agent.journal import Journal, JournalError
from gateway_agent.outbox import wall_clock
from schemas.command import Command, decode_command
from schemas.errors import FrameError, IoTCloudError
from schemas.topics import MASTER, commands_topic, results_topic
from telemetry.logs import logger

#: Seconds between looks at commands that wait for their application.
_LOOK_EVERY: Final = 0.2
#: Seconds between forgetting commands of long ago.
_FORGET_EVERY: Final = 3_600.0
#: µs after its deadline in which a started command may still end by itself.
_PATIENCE: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """Who executes a command. ``state`` of ``wait`` means: perhaps soon; of ``never``: no, for the reason given."""

    state: Literal["ready", "wait", "never"]
    application: str = ""
    reason: str = ""


class Fleet(Protocol):
    """The applications of this gateway, as far as commands need them."""

    def target(self, device: str, command: str) -> Target: ...

    def execute(self, application: str, command: Execute) -> bool: ...


class Commands:
    """Executes the commands of one gateway. `executed` and `application_ended` may be called from any thread."""

    def __init__(
        self, gateway: str, broker: Broker, journal: Journal, fleet: Fleet, *, clock: Callable[[], int] = wall_clock
    ) -> None:
        self._gateway = gateway
        self._broker = broker
        self._journal = journal
        self._fleet = fleet
        self._clock = clock
        self._log = logger("commands")
        self._stopping = threading.Event()
        self._reader: QueueReader | None = None
        # Commands that wait for their application, and those that come, are looked at by two threads.
        self._turn = threading.Lock()
        self._held: dict[str, Command] = {}
        self._forget_at = 0.0
        self._results = ResultsPublisher(gateway, broker, journal)
        self._threads = [
            threading.Thread(target=self._run, name="commands", daemon=True),
            threading.Thread(target=self._keep_looking, name="commands-held", daemon=True),
        ]

    def start(self) -> None:
        for command in self._journal.recover("the agent died between started and done"):
            self._held[command.id] = command
        self._results.start()
        for thread in self._threads:
            thread.start()

    def stop(self, within: float) -> None:
        """Take no more commands, and tell what is to be told."""
        self._stopping.set()
        reader = self._reader
        if reader is not None:
            reader.close()
        for thread in self._threads:
            thread.join(within)
        self._results.stop(within)

    def executed(self, executed: Executed) -> None:
        """A driver is done with a command."""
        self._write(lambda: self._journal.advance(executed.id, executed.step, executed.detail))

    def application_ended(self, application: str) -> None:
        """What the application had started has an unknown end."""
        self._write(lambda: self._journal.recover("the application ended between started and done", application=application))

    def _run(self) -> None:
        pauses = Backoff(0.1, 10.0)
        while not self._stopping.is_set():
            try:
                self._follow(pauses)
            except Exception as error:  # noqa: BLE001  (a broker's client may raise anything; this thread must go on)
                if self._stopping.is_set():
                    return
                pause = pauses.next()
                self._log.warning("commands cannot be received", reason=str(error), again_in=round(pause, 2))
                self._stopping.wait(pause)
            finally:
                self._close_reader()

    def _follow(self, pauses: Backoff) -> None:
        reader = self._reader = subscribe(
            self._broker, [commands_topic(self._gateway)], group=self._gateway, positions=self._journal, start="beginning"
        )
        while not self._stopping.is_set():
            deliveries = reader.poll(max_messages=100, timeout=1.0)
            if self._stopping.is_set():
                return
            for delivery in deliveries:
                with self._turn:
                    self._take(delivery)
            if deliveries:
                reader.acknowledge(deliveries)
            pauses.reset()

    def _take(self, delivery: Delivery) -> None:
        try:
            command = decode_command(delivery.value)
        except FrameError as error:
            self._log.warning("not a command", topic=delivery.topic, reason=str(error))
            return
        if command.id in self._held or self._journal.known(command.id):
            self._log.info("a command came again", command=command.id)
            return
        if not self._try(command):
            self._journal.begin(command, "accepted")
            self._held[command.id] = command

    def _keep_looking(self) -> None:
        """At what has been accepted, by itself: the broker may be away, and who reads from it held up."""
        pauses = Backoff(_LOOK_EVERY, 10.0)
        while not self._stopping.wait(_LOOK_EVERY):
            try:
                with self._turn:
                    self._look()
                pauses.reset()
            except Exception as error:  # noqa: BLE001  (this thread must go on; a full disk, say, has room again)
                self._log.error("commands that wait cannot be looked at", reason=str(error))
                self._stopping.wait(pauses.next())

    def _look(self) -> None:
        for command in list(self._held.values()):
            if self._try(command):
                del self._held[command.id]
        for late in self._journal.overdue(self._clock() - _PATIENCE):
            self._journal.advance(late, "unknown", "the driver did not say what became of it")
        if time.monotonic() >= self._forget_at:
            self._journal.forget_old()
            self._forget_at = time.monotonic() + _FORGET_EVERY

    def _try(self, command: Command) -> bool:
        """Execute or refuse a command; False when it has to wait for its application."""
        if command.gateway != self._gateway:
            self._step(command, "failed", f"is for the gateway {command.gateway!r}, this is {self._gateway!r}")
        elif command.deadline < self._clock():
            self._step(command, "expired", "came after its deadline")
        elif command.issued_at <= self._journal.lost_until and command.id not in self._held:
            self._step(command, "unknown", "the journal that knew whether it has been executed was damaged: send it again")
        else:
            target = self._fleet.target(command.device, command.name)
            if target.state == "wait":
                return False
            if target.state == "never":
                self._step(command, "failed", target.reason)
            else:
                self._execute(command, target.application)
        return True

    def _execute(self, command: Command, application: str) -> None:
        self._step(command, "started", application=application)
        execute = Execute(command.id, command.device, command.name, command.args, command.deadline)
        if not self._fleet.execute(application, execute):
            self._journal.advance(command.id, "unknown", "the application ended while it was handed the command")

    def _step(
        self,
        command: Command,
        step: Literal["started", "failed", "expired", "unknown"],
        detail: str = "",
        *,
        application: str = "",
    ) -> None:
        if command.id in self._held:
            self._journal.advance(command.id, step, detail, application=application)
        else:
            self._journal.begin(command, step, detail, application=application)
        if step != "started":
            self._log.warning("a command is not executed", command=command.id, step=step, reason=detail)

    def _write(self, action: Callable[[], object]) -> None:
        try:
            action()
        except JournalError as error:
            self._log.error("what became of a command could not be written down", reason=str(error))

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(IoTCloudError):
                reader.close()


class ResultsPublisher:
    """Tells what became of commands, in order and at least once."""

    def __init__(self, gateway: str, broker: Broker, journal: Journal) -> None:
        self._topic = results_topic(gateway)
        self._broker = broker
        self._journal = journal
        self._log = logger("commands")
        self._kept = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within: float) -> None:
        self._stopping.set()
        self._journal.news.set()
        self._thread.join(within)

    def _run(self) -> None:
        pauses = Backoff(0.1, 30.0)
        publisher = self._broker.publisher()
        try:
            while True:
                self._journal.news.wait(5.0)
                self._journal.news.clear()
                try:
                    while self._tell(publisher):
                        pauses.reset()
                except Exception as error:  # noqa: BLE001  (likewise)
                    self._log.warning("results of commands cannot be told yet", reason=str(error))
                    if not self._stopping.is_set():
                        self._stopping.wait(pauses.next())
                        self._journal.news.set()
                if self._stopping.is_set():
                    return
        finally:
            publisher.close()

    def _tell(self, publisher: Publisher) -> bool:
        """Tell some of what is to be told; whether there was any."""
        waiting = self._journal.results()
        if not waiting:
            return False
        if not self._kept:
            with contextlib.suppress(BrokerRefused):  # the master's own right will do
                self._broker.keep([self._topic], group=MASTER)
            self._kept = True
        try:
            publisher.publish([Message(self._topic, one.command, one.body) for one in waiting])
        except PublishError as error:
            taken = [one for index, one in enumerate(waiting) if index not in error.unacknowledged or index in error.refused]
            self._journal.told(taken)
            if set(error.refused) != set(error.unacknowledged):
                raise
            self._log.error("the broker refuses results of commands", reason=error.message, lost=len(error.refused))
            return True
        self._journal.told(waiting)
        return True
