"""One life of a child process: started, talked to, and ended at the latest when it no longer answers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from gateway_agent.host.link import Link, LinkBroken, Unintelligible
from gateway_agent.host.messages import (
    Ack,
    End,
    Events,
    Execute,
    Executed,
    Go,
    Hello,
    Line,
    Rejected,
    Start,
    Stop,
    ToAgent,
)

#: Seconds a child has to say what it is: it may have to import large libraries.
HELLO_WITHIN: Final = 60.0
#: Seconds without a heartbeat after which a child counts as hung.
HUNG_AFTER: Final = 10.0

Kind = Literal["finished", "stopped", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a life ended, and why."""

    kind: Kind
    detail: str


class Listener(Protocol):
    """Who is told what a child says. Called from the thread in `Life.run`."""

    def on_hello(self, hello: Hello) -> Go:
        """Raises `schemas.errors.ConfigurationError` when the application cannot run like this."""

    def on_events(self, events: Events) -> None:
        """Sees that `Life.acknowledge` is called when they are on disk."""

    def on_line(self, line: Line) -> None: ...

    def on_rejected(self, rejected: Rejected) -> None: ...

    def on_executed(self, executed: Executed) -> None: ...


class Life:
    """Made for one process. `run` blocks until it has ended; everything else may be called from other threads."""

    def __init__(self, start: Start, listener: Listener, *, hung_after: float = HUNG_AFTER) -> None:
        self._start = start
        self._listener = listener
        self._hung_after = hung_after
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link[ToAgent] | None = None
        self._stop_until: float | None = None
        self._ended = threading.Event()
        self._why_killed = ""

    @property
    def pid(self) -> int | None:
        return None if self._process is None or self._ended.is_set() else self._process.pid

    def run(self) -> Outcome:
        """Start the process and serve it. The thread that calls this must live as long: the child dies with it."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return Outcome("failed", f"could not be started: {error}")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway_agent.host.child", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # What a driver prints is log, not output of the agent.
                stdout=2,
                env=_environment(),
            )
        except OSError as error:
            ours.close()
            return Outcome("failed", f"could not be started: {error}")
        finally:
            theirs.close()
        self._link = Link(ours, ToAgent)
        try:
            end = self._serve(self._link)
        except Unintelligible as error:
            end = None
            self._why_killed = str(error)
        except LinkBroken:
            end = None
        finally:
            self._link.close()
            status = self._reap()
            self._ended.set()
        if self._why_killed:
            return Outcome("failed", self._why_killed)
        return end or Outcome("failed", f"died of signal {-status}" if status < 0 else f"ended with exit status {status}")

    def acknowledge(self, number: int) -> None:
        self._send(Ack(number))

    def execute(self, command: Execute) -> bool:
        """Hand a command to the driver; False when the process is gone."""
        return self._send(command)

    def stop(self, within: float) -> None:
        """Ask the driver to stop; after ``within`` seconds the process is killed."""
        self._stop_until = time.monotonic() + within
        self._send(Stop())

    def kill(self, why: str) -> None:
        self._why_killed = why
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.kill()

    def _serve(self, link: Link[ToAgent]) -> Outcome | None:
        link.send(self._start)
        heard = time.monotonic()
        patience = HELLO_WITHIN
        while True:
            message = link.receive(0.25)
            now = time.monotonic()
            if self._stop_until is not None and now > self._stop_until:
                self.kill("did not stop in time and was killed")
                return None
            if message is None:
                if now - heard > patience:
                    self.kill(f"hung: silent for {patience:g} s, and was killed")
                    return None
                continue
            heard = now
            if isinstance(message, End):
                return Outcome(message.kind, message.detail)
            if isinstance(message, Hello):
                patience = self._hung_after
            self._dispatch(link, message)

    def _dispatch(self, link: Link[ToAgent], message: ToAgent) -> None:
        """What is said in the middle of a life; a `Beat` says nothing more than that there is one."""
        match message:
            case Events():
                self._listener.on_events(message)
            case Line():
                self._listener.on_line(message)
            case Rejected():
                self._listener.on_rejected(message)
            case Executed():
                self._listener.on_executed(message)
            case Hello():
                link.send(self._listener.on_hello(message))

    def _send(self, message: Ack | Execute | Stop) -> bool:
        if self._link is None or self._ended.is_set():
            return False
        try:
            self._link.send(message)
        except LinkBroken:
            return False
        return True

    def _reap(self) -> int:
        process = self._process
        if process is None:
            return 0
        try:
            return process.wait(timeout=3.0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _environment() -> dict[str, str]:
    """The child finds modules where the agent does. Small arenas keep it small: it has several threads."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "MALLOC_ARENA_MAX": "1"}
