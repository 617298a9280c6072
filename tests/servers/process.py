"""A server as a child process: started until it is ready, killed, started again, never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from schemas.errors import IoTCloudError
from telemetry.stopping import die_with_parent


class ServerFailed(IoTCloudError):
    """A server could not be installed, did not become ready, or ended by itself."""


class ServerProcess:
    """One server. Its output goes to ``directory/NAME.log``; ``ready`` is asked until it holds, for ``deadline`` seconds.

    It is a process group of its own, so that what it starts ends with it, and dies with the process that made it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        deadline: float = 90.0,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = list(command)
        self._directory = directory
        self._ready = ready
        self._environment = {**os.environ, **(environment or {})}
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises `ServerFailed` when it was not started."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it is ready. Raises `ServerFailed` with the end of its log."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (a single call into libc)
            )
        until = time.monotonic() + self._deadline
        while not self._ready():
            if not self.running:
                raise ServerFailed(f"{self.name} ended with {self._process.returncode}: {self.tail()}", remedy=f"see {self.log}")
            if time.monotonic() > until:
                self.kill()
                raise ServerFailed(
                    f"{self.name} was not ready in {self._deadline:.0f} s: {self.tail()}", remedy=f"see {self.log}"
                )
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, to all of its processes. Nothing happens when it has ended."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=30)

    def stop(self, *, deadline: float = 30.0) -> None:
        """SIGTERM, and SIGKILL when it takes longer than ``deadline`` seconds."""
        if self.running and self._process is not None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=deadline)
        self.kill()

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
