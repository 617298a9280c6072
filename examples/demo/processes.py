"""The processes of the demonstration: started, watched, started again when they die, stopped in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.errors import IoTCloudError
from telemetry.stopping import die_with_parent


class ProcessFailed(IoTCloudError):
    """A process of the demonstration died again and again, or did not stop."""


class Process:
    """A child process that is started again when it dies, as a service manager would.

    Its output goes to a file. It dies with this process.
    """

    #: Deaths after which there is no use in starting again, while `healthy` has not been called.
    DEATHS = 5
    PAUSE = 0.5

    def __init__(self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self._deaths = 0
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._process = self._start()
        self._wanted = True
        self._changed = threading.Condition()
        self._begin_watching()

    @property
    def pid(self) -> int:
        return self._process.pid

    def restart_with(self, command: Sequence[str]) -> None:
        """Use another command when it must be started again."""
        self._command = list(command)

    def start_again(self) -> None:
        """Start it after `stop`, as if it had died."""
        with self._changed:
            self._wanted = True
            self.restarts += 1
            self._process = self._start()
        self._begin_watching()

    def healthy(self) -> None:
        """It has done something useful since it was started: earlier deaths count no longer."""
        self._deaths = 0

    def check(self) -> None:
        """Raises `ProcessFailed` when it is not to be started again."""
        if self._deaths >= self.DEATHS:
            raise ProcessFailed(f"{self.name} died {self._deaths} times in a row: {self.tail()}", remedy=f"see {self.log}")

    def tail(self) -> str:
        return tail(self.log)

    def stop(self, *, deadline: float) -> int:
        """Ask it to stop (SIGTERM) and return its exit status. Raises `ProcessFailed` after ``deadline`` seconds."""
        with self._changed:
            self._wanted = False
            process = self._process
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
            raise ProcessFailed(f"{self.name} did not stop within {deadline:.0f} s", remedy=f"see {self.log}") from None

    def kill(self) -> None:
        """End it at once; nothing happens when it has ended."""
        with self._changed:
            self._wanted = False
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=10)

    def _begin_watching(self) -> None:
        threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (a single call into libc)
            )

    def _watch(self) -> None:
        while True:
            process = self._process
            process.wait()
            with self._changed:
                if not self._wanted:
                    return
                self._deaths += 1
                if self._deaths >= self.DEATHS:
                    return
            time.sleep(self.PAUSE)
            with self._changed:
                if not self._wanted:
                    return
                self.restarts += 1
                self._process = self._start()


def run_once(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    deadline: float,
    output: Path | None = None,
) -> int:
    """Run a command to its end and return its exit status. What it prints goes to ``output``, or to its log.

    Raises `ProcessFailed` after ``deadline`` seconds.
    """
    with log.open("ab") as errors, contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors if output is None else stack.enter_context(output.open("wb")),
            stderr=errors,
            env={**os.environ, **environment},
            preexec_fn=die_with_parent,  # noqa: PLW1509 (a single call into libc)
        )
    try:
        return process.wait(timeout=deadline)
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{name} did not end within {deadline:.0f} s", remedy=f"see {log}") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)


def tail(log: Path) -> str:
    """What a process said last."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it wrote nothing"
