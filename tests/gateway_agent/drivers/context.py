"""A context that keeps what a driver emits and stores, for tests of what drivers make of their input.

Durable is what was emitted and stored before a commit; `killed_after` ends the driver's process, so to speak, at any of them.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from structlog.testing import CapturingLogger

from gateway_agent.driver import Event


class Killed(Exception):
    """The process is no more."""


class State(dict[str, Any]):
    """Refuses at once what is no JSON."""

    def __setitem__(self, key: str, value: Any) -> None:
        assert json.loads(json.dumps(value)) == value
        super().__setitem__(key, value)


class KeepingContext:
    """Keeps; `emitted` and `stored` are what would be on disk. Time passes as fast as it is slept with ``hurry``."""

    def __init__(self, *, stored: Mapping[str, Any] | None = None, killed_after: int | None = None, hurry: bool = False) -> None:
        self.emitted: list[Event] = []
        self.rejected: list[tuple[str, str]] = []
        self.slept: list[float] = []
        self.stored = dict(stored or {})
        self.commits: list[int] = []
        self.state = State(self.stored)
        capturing = CapturingLogger()
        self.log_calls = capturing.calls
        self.log = structlog.wrap_logger(capturing)
        self._stop = threading.Event()
        self._killed_after = killed_after
        self._hurry = hurry
        self._held: list[Event] | None = None
        self._gate = threading.RLock()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def emit(self, device: str, channel: str, *, event_time: Any = None, **fields: Any) -> None:
        self.emit_many([(device, channel, event_time, fields)])

    def emit_many(self, events: Iterable[Event]) -> None:
        with self._gate:
            if self._held is not None:
                self._held += events
            else:
                with self.together():
                    self._held = list(events)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        with self._gate:
            self._held = []
            yield
            events, self._held = self._held, None
            if self._killed_after is not None and len(self.commits) >= self._killed_after:
                raise Killed
            self.emitted += events
            self.stored = dict(self.state)
            self.commits.append(len(events))

    def flush(self, timeout: float = 30.0) -> bool:
        return True

    def sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        if self._hurry:
            return not self.stopping
        return not self._stop.wait(seconds)

    def reject(self, where: str, reason: str) -> None:
        self.rejected.append((where, reason))

    def serial(self, port: str, *, baud: int = 9600, **options: Any) -> Any:
        from gateway_agent.serial_port import SerialPort

        return SerialPort(self, port, baud=baud, **options)


def eventually(condition: Any, *, within: float = 20.0) -> None:
    """Fails when ``condition`` does not come true in time."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s"
        time.sleep(0.005)
