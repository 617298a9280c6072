"""A real job in a process of its own, with a real Prism."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PIPELINE = """
[source]
disorder = "10s"

[windows.short]
size = "10s"
allowed_lateness = "1h"

[windows.long]
kind = "sliding"
size = "30s"
every = "10s"
allowed_lateness = "1h"
"""


class Job:
    """``python -m pipelines.run realtime`` on what is in ``folder``."""

    def __init__(self, folder: Path, topics: tuple[str, ...], pipeline: str = PIPELINE, *, sources: Sequence[str] = ()) -> None:
        """``sources`` are brokers to read the topics from; by default the log in ``folder``."""
        self.folder = folder
        self.results = folder / "results.sqlite"
        self._file = folder / "pipeline.toml"
        self._file.write_text(pipeline)
        self._status = folder / "status.json"
        self._arguments = [
            *(word for url in sources or [f"local:{folder}/log"] for word in ("--source", _with_topics(url, topics))),
            *("--pipeline", str(self._file)),
            *("--sink", f"sqlite:{self.results}"),
            *("--state", str(folder / "state")),
            *("--status-file", str(self._status)),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        self._status.unlink(missing_ok=True)
        with (self.folder / "job.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.run", "realtime", *self._arguments, *more], cwd=ROOT, stderr=log, stdout=log
            )

    def run(self, *more: str, timeout: float = 120) -> int:
        self.start(*more)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the job did not end:\n{self.log()}") from None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def runner(self, timeout: float = 30) -> int:
        """Process id of the job's Prism."""
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            for number in _children(self.process.pid):
                if _name(number) == "prism":
                    return number
            time.sleep(0.02)
        raise AssertionError(f"no Prism was started:\n{self.log()}")

    def status(self) -> dict[str, Any] | None:
        """The status document; None while there is none."""
        try:
            port = json.loads(self._status.read_text())["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/status", timeout=5) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except OSError:
            return None

    def wait_for(self, condition: Any, timeout: float = 60) -> dict[str, Any]:
        """The first status for which ``condition`` holds."""
        assert self.process is not None
        deadline = time.monotonic() + timeout
        found = None
        while time.monotonic() < deadline and self.process.poll() is None:
            found = self.status()
            if found is not None and condition(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited in vain; last status {found}\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "job.log").read_text()[-4000:]


def _with_topics(url: str, topics: tuple[str, ...]) -> str:
    address, mark, query = url.partition("?")
    return f"{address.rstrip('/')}/{','.join(topics)}{mark}{query}"


def ends(number: int, timeout: float = 5) -> bool:
    """Whether a process has ended, or does so in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if _state(number) == "Z":
            return True
        time.sleep(0.01)
    return False


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            found += [int(number) for number in task.read_text().split()]
        except OSError:
            continue
    return found


def _name(number: int) -> str:
    try:
        return Path(f"/proc/{number}/comm").read_text().strip()
    except OSError:
        return ""


def _state(number: int) -> str:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
