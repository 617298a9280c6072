"""A driver in its real child process, under its real supervision, with a real outbox; nothing is published."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from gateway_agent.host.application import Application, Status, Supervision, Wiring
from gateway_agent.host.messages import MAX_BATCH_BYTES, Execute, Executed, Hello, Start
from gateway_agent.outbox import Outbox, Route
from schemas.control import is_control
from schemas.frame import decode_frame
from schemas.registry import EventSchema, Schemas, event_schema

_TRANSPORT: Final = "bench"
_NAME: Final = "under-test"


class Bench:
    """Runs ``driver`` with ``settings``; its outbox is in ``folder`` and outlives the bench. Use it in a ``with``.

    Every wait ends in `TimeoutError` after ``within`` seconds.
    """

    def __init__(self, folder: Path, driver: str, settings: Mapping[str, Any]) -> None:
        self._outbox = Outbox(folder, gateway="bench", transports=[_TRANSPORT])
        self._schemas: dict[str, EventSchema] = {}
        self._executed: dict[str, Executed] = {}
        self._answered = threading.Condition()
        self._commands = 0
        self._application = Application(
            Start(
                site="bench",
                application=_NAME,
                driver=driver,
                settings=dict(settings),
                origin="gateway.toml",
                folder=str(folder),
            ),
            self._outbox,
            wire=self._wire,
            executed=self._take_answer,
            supervision=Supervision(first_pause=0.01, longest_pause=0.1, failures=50),
        )

    def __enter__(self) -> Self:
        self._application.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._application.stop()
        self._application.join(30.0)
        self._outbox.close()

    @property
    def status(self) -> Status:
        return self._application.status()

    @property
    def state(self) -> dict[str, Any]:
        """What the driver has stored, as it is on disk."""
        stored = self._outbox.state_of(_NAME)
        return json.loads(stored) if stored else {}

    def events(self) -> list[dict[str, Any]]:
        """All events on disk, of each channel in their order."""
        schemas = Schemas(self._schemas.values())
        events: list[dict[str, Any]] = []
        after = -1
        while frames := self._outbox.hand_out(_TRANSPORT, after=after):
            after = frames[-1].id
            for frame in frames:
                if not is_control(frame.body):
                    events += decode_frame(frame.body, schemas).events
        return events

    def until(self, condition: Callable[[], object], *, within: float = 30.0, what: str = "the condition") -> None:
        """Wait for ``condition``."""
        end = time.monotonic() + within
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} did not come true within {within:g} s: {self.status}")
            time.sleep(0.005)

    def stop(self, *, within: float = 10.0) -> Status:
        """Ask the driver to stop, and wait until it has."""
        self._application.stop()
        if not self._application.join(within):
            raise TimeoutError(f"the driver did not stop within {within:g} s: {self.status}")
        return self.status

    def kill(self) -> None:
        """End the child process at once, as a crash would; nothing happens when there is none."""
        pid = self.status.pid
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def execute(self, device: str, name: str, args: Mapping[str, Any] | None = None, *, within: float = 30.0) -> Executed:
        """Have a command executed, and its answer."""
        self._commands += 1
        deadline = time.time_ns() // 1_000 + round(within * 1_000_000)
        command = Execute(f"bench-{self._commands}", device, name, json.dumps(args or {}), deadline)
        self.until(lambda: self._application.execute(command), within=within, what="that the driver takes commands")
        with self._answered:
            if not self._answered.wait_for(lambda: command.id in self._executed, within):
                raise TimeoutError(f"no answer to {name!r} within {within:g} s")
            return self._executed[command.id]

    def _wire(self, hello: Hello) -> Wiring:
        self._schemas = {channel.name: event_schema(channel.schema, origin=channel.name) for channel in hello.channels}
        return Wiring(
            route=lambda channel, _device: Route(f"bench.{channel}", _TRANSPORT, self._schemas[channel]),
            single=(),
            max_event_bytes=MAX_BATCH_BYTES // 2,
        )

    def _take_answer(self, executed: Executed) -> None:
        with self._answered:
            self._executed[executed.id] = executed
            self._answered.notify_all()
