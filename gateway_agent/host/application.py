"""An application under supervision: its child is started again with growing pauses, and given up after too many deaths."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from brokers.backoff import Backoff
from gateway_agent.host.life import HUNG_AFTER, Life, Outcome
from gateway_agent.host.messages import Events, Execute, Executed, Go, Hello, Line, Rejected, Start
from gateway_agent.outbox import Batch, Offer, OutboxError, Route
from gateway_agent.outbox.queue import Done
from schemas.errors import IoTCloudError
from schemas.rpc import ApplicationState
from telemetry.logs import logger

#: Lines of log that a driver may write within so many seconds; what is more is counted.
_MAX_LINES: Final = 200
_LINES_WITHIN: Final = 10.0


class Accepting(Protocol):
    """Where events go: `gateway_agent.outbox.Outbox`, or what stands for it where nothing is to be kept."""

    def submit(self, batch: Batch, done: Done) -> None: ...

    def withdraw(self, application: str) -> None: ...

    def state_of(self, application: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Supervision:
    """How patient to be. Times in seconds."""

    first_pause: float = 0.5
    longest_pause: float = 30.0
    #: ``failed`` after so many failures within the window.
    failures: int = 5
    window: float = 300.0
    hung_after: float = HUNG_AFTER
    stop_within: float = 10.0


@dataclass(frozen=True, slots=True)
class Wiring:
    """What becomes of an application's channels: decided by the agent when it hears which there are."""

    #: The route of events of a channel; the device matters where its devices have topics of their own.
    route: Callable[[str, str], Route]
    single: tuple[str, ...]
    max_event_bytes: int


@dataclass(slots=True)
class Status:
    """How an application is. ``rejected`` counts input that could not be made into events."""

    name: str
    driver: str
    state: ApplicationState = "starting"
    detail: str = ""
    restarts: int = 0
    rejected: int = 0
    last_rejected: str = ""
    pid: int | None = None
    #: Channels by device, of this start of the agent.
    devices: dict[str, set[str]] = field(default_factory=dict)
    hello: Hello | None = None


class Application:
    """Supervises one application in a thread of its own.

    ``wire`` is asked with the first message of each child; it raises `schemas.errors.ConfigurationError` when the
    application cannot run like this. ``report`` is told what an operator should know (kind, detail); ``executed`` what
    became of commands, ``ended`` (with the application's name) whenever a child has ended.
    """

    def __init__(
        self,
        start: Start,
        outbox: Accepting,
        *,
        wire: Callable[[Hello], Wiring],
        executed: Callable[[Executed], None] = lambda _: None,
        report: Callable[[str, str], None] = lambda _kind, _detail: None,
        ended: Callable[[str], None] = lambda _name: None,
        supervision: Supervision = Supervision(),
    ) -> None:
        self._start_message = start
        self._outbox = outbox
        self._wire = wire
        self._executed = executed
        self._report = report
        self._ended = ended
        self._supervision = supervision
        self._status = Status(start.application, start.driver)
        self._lock = threading.Lock()
        self._log = logger("application", application=start.application)
        self._stopping = threading.Event()
        self._wiring: Wiring | None = None
        self._life: Life | None = None
        self._refused = ""
        self._unsettled = 0
        self._settled = threading.Condition()
        self._lines = 0
        self._lines_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"app-{start.application}", daemon=True)

    @property
    def name(self) -> str:
        return self._start_message.application

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the driver to stop; see `join`."""
        self._stopping.set()
        life = self._life
        if life is not None:
            life.stop(self._supervision.stop_within)

    def join(self, timeout: float) -> bool:
        """Wait for the child's end; False when it has not come within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def execute(self, command: Execute) -> bool:
        """Hand a command to the driver; False when it does not run now."""
        life = self._life
        return life is not None and self._status.state == "running" and life.execute(command)

    def status(self) -> Status:
        """A copy."""
        with self._lock:
            one = self._status
            life = self._life
            devices = {device: set(channels) for device, channels in one.devices.items()}
            pid = None if life is None else life.pid
            return Status(
                one.name,
                one.driver,
                one.state,
                one.detail,
                one.restarts,
                one.rejected,
                one.last_rejected,
                pid,
                devices,
                one.hello,
            )

    # The child's side

    def on_hello(self, hello: Hello) -> Go:
        try:
            wiring = self._wire(hello)
        except IoTCloudError as error:
            self._refused = str(error)
            raise
        self._wiring = wiring
        with self._lock:
            self._status.hello = hello
        self._set_state("running", "")
        return Go(self._outbox.state_of(self.name) or b"", wiring.single, wiring.max_event_bytes)

    def on_events(self, events: Events) -> None:
        life, wiring = self._life, self._wiring
        if life is None or wiring is None:
            return
        try:
            offers = [Offer(wiring.route(group.channel, group.device), group.tails) for group in events.groups]
        except (KeyError, IoTCloudError) as error:
            life.kill(f"emitted what has no topic: {error}")
            return

        def done(error: OutboxError | None) -> None:
            if error is None:
                life.acknowledge(events.number)
            with self._settled:
                self._unsettled -= 1
                self._settled.notify()

        with self._settled:
            self._unsettled += 1
        try:
            self._outbox.submit(Batch(self.name, offers, events.state, events.devices), done)
        except OutboxError as error:
            with self._settled:
                self._unsettled -= 1
            life.kill(str(error))
            return
        if events.devices:
            with self._lock:
                for device, channel in events.devices:
                    self._status.devices.setdefault(device, set()).add(channel)

    def on_line(self, line: Line) -> None:
        now = time.monotonic()
        if now - self._lines_since > _LINES_WITHIN:
            if self._lines > _MAX_LINES:
                self._log.warning("lines were left out", lines=self._lines - _MAX_LINES)
            self._lines, self._lines_since = 0, now
        self._lines += 1
        if self._lines > _MAX_LINES:
            return
        fields: dict[str, Any] = {key: value for key, value in line.fields.items() if key not in ("event", "level")}
        getattr(self._log, line.level)(line.event, **fields)

    def on_rejected(self, rejected: Rejected) -> None:
        with self._lock:
            self._status.rejected += rejected.count
            self._status.last_rejected = f"{rejected.where}: {rejected.reason}"
            total = self._status.rejected
        # The first few, then powers of ten: a file full of rubbish must not fill the log.
        if total <= 5 or str(total).rstrip("0") == "1":
            self._log.warning("rejected", where=rejected.where, reason=rejected.reason, rejected=total)

    def on_executed(self, executed: Executed) -> None:
        self._executed(executed)

    # Supervision

    def _run(self) -> None:
        rules = self._supervision
        pauses = Backoff(rules.first_pause, rules.longest_pause)
        failures: deque[float] = deque()
        while not self._stopping.is_set():
            self._set_state("restarting" if failures else "starting", self._status.detail if failures else "")
            outcome = self._live()
            if outcome.kind in ("finished", "stopped") or self._stopping.is_set():
                self._set_state("stopped", outcome.detail if not self._stopping.is_set() else "stopped")
                break
            if outcome.kind == "refused":
                self._fail(outcome.detail)
                break
            now = time.monotonic()
            failures.append(now)
            while failures and failures[0] < now - rules.window:
                failures.popleft()
            if len(failures) >= rules.failures:
                self._fail(f"failed {len(failures)} times in {rules.window:g} s; the last time: {outcome.detail}")
                break
            if len(failures) == 1:
                pauses.reset()
            pause = pauses.next()
            with self._lock:
                self._status.restarts += 1
            self._set_state("restarting", outcome.detail)
            self._log.warning("the application ended and is started again", reason=outcome.detail, pause=round(pause, 2))
            self._report("application_restarting", outcome.detail)
            self._stopping.wait(pause)
        if self._stopping.is_set() and self._status.state not in ("stopped", "failed"):
            self._set_state("stopped", "stopped")

    def _live(self) -> Outcome:
        self._refused = ""
        life = self._life = Life(self._start_message, self, hung_after=self._supervision.hung_after)
        if self._stopping.is_set():
            return Outcome("stopped", "stopped")
        try:
            outcome = life.run()
        except IoTCloudError as error:
            outcome = Outcome("refused", str(error))
        except Exception as error:  # noqa: BLE001  (this thread must go on: nobody else looks after the application)
            life.kill("its supervision failed")
            outcome = Outcome("failed", f"its supervision failed: {type(error).__name__}: {error}")
        finally:
            self._settle()
            self._ended(self.name)
        return outcome

    def _settle(self) -> None:
        """The next child begins where this one's accepted events end: so nothing of it may be accepted later."""
        while True:
            self._outbox.withdraw(self.name)
            with self._settled:
                if self._unsettled == 0:
                    return
                self._settled.wait(0.05)

    def _fail(self, detail: str) -> None:
        self._set_state("failed", detail)
        self._log.error("the application has failed and stays down", reason=detail)
        self._report("application_failed", detail)

    def _set_state(self, state: ApplicationState, detail: str) -> None:
        with self._lock:
            self._status.state, self._status.detail = state, detail
