"""What is done with what is stored: events sorted by their time, the archive verified, windows and rules computed again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.demo.databases import Database, opened
from examples.demo.layout import Layout
from examples.demo.processes import ProcessFailed, run_once, tail
from examples.demo.results import different, windows
from examples.demo.stores import Stores

_DEADLINE = 300.0
#: A job that was killed is run again so often: it finds what it needs.
_TIMES = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """What the jobs said, and what comparing showed."""

    #: Events sorted by their time, and the hours they are in.
    events: int
    hours: int
    #: Of each kind of fault of the archive, how many; empty for a sound one.
    faults: Mapping[str, int]
    #: Windows that hold numbers, computed from the stored events; rows of windows that are not as the real-time job left them.
    windows: int
    different: int
    #: Commands that rules would have sent.
    commands: frozenset[str]
    #: Of each job.
    seconds: Mapping[str, float]
    restarts: int


@dataclass
class _Jobs:
    layout: Layout
    stores: Stores
    seconds: dict[str, float] = field(default_factory=dict)
    restarts: int = 0

    def run(self, job: str, *options: str, output: Path | None = None, accepted: Sequence[int] = (0,)) -> None:
        """Raises `ProcessFailed`."""
        command = [sys.executable, "-m", "pipelines.run", job, "--archive", self.stores.archive]
        command += ["--pipeline", str(self.layout.pipeline), *options]
        log = self.layout.logs / f"{job}.log"
        began = time.monotonic()
        for _ in range(_TIMES):
            status = run_once(job, command, log=log, environment=self.stores.environment, deadline=_DEADLINE, output=output)
            if status >= 0:
                break
            self.restarts += 1
        self.seconds[job] = round(time.monotonic() - began, 1)
        if status not in accepted:
            raise ProcessFailed(f"{job} ended with {status}: {tail(log)}", remedy=f"see {log}")


def batch(layout: Layout, stores: Stores, database: Database, tell: Callable[[str], None]) -> Batch:
    """Run ``compact``, ``verify`` and ``reprocess``, the last one into tables of its own. Raises `ProcessFailed`."""
    jobs = _Jobs(layout, stores)
    tell("compacting")
    jobs.run("compact")
    tell("verifying")
    jobs.run("verify", "--against-journal", "--json", output=layout.verified, accepted=(0, 1))
    tell("reprocessing")
    jobs.run("reprocess", "--from", "events", "--sink", stores.reprocessed, "--fired", str(layout.fired))
    tell("comparing")
    found = json.loads(layout.verified.read_text())
    with opened(stores.reprocessed, stores.environment) as again:
        return Batch(
            events=found["events"],
            hours=found["hours"],
            faults=_faults(found),
            windows=len(windows(again)),
            different=different(database, again),
            commands=frozenset(_fired(layout.fired)),
            seconds=jobs.seconds,
            restarts=jobs.restarts,
        )


def _faults(found: Mapping[str, Any]) -> dict[str, int]:
    """What ``verify`` found. Of ranges of events, how many events they are."""

    def number(fault: str | Mapping[str, Any]) -> int:
        return 1 if isinstance(fault, str) else fault["last"] - fault["first"] + 1

    kinds = ("damaged", "duplicates", "missing", "lost", "foreign")
    counted = {kind: sum(map(number, found[kind])) for kind in kinds if found[kind]}
    return counted or ({} if found["sound"] else {"unsound": 1})


def _fired(path: Path) -> list[str]:
    fired = (json.loads(line) for line in path.read_text().splitlines())
    return [found["id"] for found in fired if found["command"] is not None]
