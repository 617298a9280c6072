"""Real agents in processes of their own, and the account of what they left in a log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brokers import connect
from brokers.contract import require_log
from schemas.control import Dropped, EpochStart, decode_control, is_control
from schemas.frame import decode_frame, identity
from schemas.registry import Schemas

ROOT = Path(__file__).parent.parent.parent


def run_to_its_end(file: Path, *, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """An agent that should not get far, in a process of its own; what it said."""
    return subprocess.run(
        [sys.executable, "-m", "gateway_agent", "run", str(file)],
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def eventually(condition: Callable[[], Any], *, within: float = 60.0, what: str = "the condition") -> Any:
    """What ``condition`` returns when it is true at last. Fails when that takes longer than ``within`` seconds."""
    until = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < until, f"{what}: not within {within} s"
        time.sleep(0.01)
    return found


class AgentProcess:
    """``python -m gateway_agent run FILE``."""

    def __init__(self, file: Path, *, environment: dict[str, str] | None = None, stop_within: float = 10) -> None:
        self.file = file
        self.log = file.with_suffix(".log")
        paths = os.pathsep.join([str(ROOT), str(file.parent)])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway_agent", "run", str(file), "--stop-within", str(stop_within)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def status(self) -> dict[str, Any] | None:
        """What the agent says of itself; None while it cannot be asked."""
        url_file = self.file.parent / "data" / "status.url"
        try:
            with _OPENER.open(url_file.read_text().strip() + "/api/v1/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            assert self.process.poll() is None, f"the agent ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"
            return None
        return found

    def application(self, name: str) -> dict[str, Any] | None:
        status = self.status()
        if status is None:
            return None
        return next(one for one in status["applications"] if one["name"] == name)

    def wait_for(self, application: str, state: str, *, within: float = 60.0) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            found = self.application(application)
            return found if found and found["state"] == state else None

        found: dict[str, Any] = eventually(there, within=within, what=f"{application} {state}; {self.log.read_text()[-2000:]}")
        return found

    def wait_published(self, *, within: float = 60.0) -> dict[str, Any]:
        """Wait until nothing is left in the outbox."""

        def empty() -> dict[str, Any] | None:
            status = self.status()
            return status if status and not status["outbox"]["buffered_bytes"] else None

        found: dict[str, Any] = eventually(empty, within=within, what="an empty outbox")
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)
        (self.file.parent / "data" / "status.url").unlink(missing_ok=True)

    def terminate(self, *, within: float = 20.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=within)


@contextmanager
def agent(file: Path, **options: Any) -> Iterator[AgentProcess]:
    """An agent that is gone at the end, whatever happens."""
    running = AgentProcess(file, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def bodies(url: str, topic: str) -> list[bytes]:
    """All messages of a topic of a log with one partition, in order."""
    reader = require_log(connect(url))
    try:
        found: list[bytes] = []
        for partition in reader.partitions(topic):
            offset = reader.begin_offset(topic, partition)
            while records := reader.read(topic, partition, offset, max_records=1000, max_bytes=64 << 20):
                found += [record.value for record in records]
                offset = records[-1].offset + 1
        return found
    finally:
        reader.close()


class Account:
    """What a topic holds: its events once each, in order, and whether everything is accounted for.

    Raises AssertionError where the promises of the outbox are broken: a frame sent twice is byte for byte the same,
    an epoch begins with its `EpochStart` and at seq 0, its frames come in order and without holes but those named by
    `Dropped` records, and each epoch's `EpochStart` says how far the one before had come.
    """

    def __init__(self, frames: list[bytes], *, more: list[Any] | None = None) -> None:
        schemas = Schemas.with_shipped(more or [])
        self.events: list[dict[str, Any]] = []
        self.dropped: list[Dropped] = []
        self.starts: list[EpochStart] = []
        self.copies = 0
        seen: dict[Any, bytes] = {}
        covered: dict[int, list[tuple[int, int]]] = {}
        order: list[int] = []
        newest: dict[int, int] = {}
        for body in frames:
            if is_control(body):
                record = decode_control(body)
                if isinstance(record, EpochStart):
                    if record in self.starts:
                        self.copies += 1
                        continue
                    assert record.epoch not in covered, "events of an epoch came before its EpochStart"
                    self.starts.append(record)
                    covered[record.epoch] = []
                    order.append(record.epoch)
                elif record not in self.dropped:
                    self.dropped.append(record)
                    covered[record.epoch].append((record.first, record.last))
                continue
            frame = decode_frame(body, schemas)
            who = identity(frame.events)
            if who in seen:
                assert seen[who] == body, "a frame sent twice differs"
                self.copies += 1
                continue
            seen[who] = body
            assert who.epoch in covered, "events of an epoch came before its EpochStart"
            assert who.first >= newest.get(who.epoch, 0), "frames are out of order"
            newest[who.epoch] = who.next
            covered[who.epoch].append((who.first, who.next - 1))
            self.events += frame.events
        self._check(order, covered)

    def _check(self, order: list[int], covered: dict[int, list[tuple[int, int]]]) -> None:
        assert order == sorted(order)
        before: int | None = None
        last: int | None = None
        for start in self.starts:
            assert (start.previous_epoch, start.previous_last) == (before, last), "an EpochStart does not fit what came before"
            expected = 0
            for first, end in sorted(covered[start.epoch]):
                assert first == expected, f"epoch {start.epoch}: {first} follows {expected - 1}"
                expected = end + 1
            before, last = start.epoch, expected - 1 if expected else None
