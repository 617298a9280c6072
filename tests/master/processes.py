"""A real master in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from master.client import Client

ROOT = Path(__file__).parent.parent.parent
_START_WITHIN = 30.0


class MasterProcess:
    """Started on a free port, or on the one it had before."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.options = options
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.directory / "token").read_text().strip()

    @property
    def log(self) -> str:
        return (self.directory / "master.log").read_text()

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        url_file = self.directory / "url"
        url_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "master", "--data", str(self.directory), "--port", str(self.port)]
        with (self.directory / "master.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--url-file", str(url_file), *self.options],
                stderr=log,
                cwd=ROOT,
            )
        until = time.monotonic() + _START_WITHIN
        while not url_file.exists():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.02)
        self.port = int(url_file.read_text().strip().rpartition(":")[2])

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
        return self._process.wait(20)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)

    def client(self) -> Client:
        return Client(self.url, self.token)
