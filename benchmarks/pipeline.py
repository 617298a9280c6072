"""Columns against the classic one-element-per-event Beam pipeline: events per second of CPU, rows compared.

First on Beam's in-memory runner (decode, window, aggregate), then the whole job on Prism from the ``local`` log. CPU is
that of the job and of Prism together. Every run is a process of its own; contestants take turns; ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import interleaved, progress, write_result
from benchmarks.streams.events import STEP, fill_log

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Case:
    """One comparison. ``small`` events go through both and must give the same rows; ours is timed on ``large``."""

    name: str
    runner: str
    per_frame: int
    series: int
    #: Events per window and series.
    dense: int
    small: int
    large: int
    #: How many times faster ours is to be.
    target: float

    @property
    def window(self) -> int:
        """µs."""
        return self.dense * self.series * STEP


CASES = (
    Case("in memory, 200 series", "memory", 100, 200, 100, 100_000, 2_000_000, 20),
    Case("in memory, 4,000 series", "memory", 100, 4_000, 10, 100_000, 2_000_000, 8),
    Case("Prism, frames of 100, 100 events per window and series", "prism", 100, 400, 100, 100_000, 2_000_000, 12),
    Case("Prism, frames of 100, 10 events per window and series", "prism", 100, 400, 10, 100_000, 2_000_000, 4),
    Case("Prism, frames of 1, 100 events per window and series", "prism", 1, 400, 100, 100_000, 500_000, 2.5),
)
#: How much more events a backlog holds that memory is watched with.
BACKLOG = 4


def main(arguments: list[str]) -> int:
    """Returns 0 when all rows are equal and every target is met."""
    parser = argparse.ArgumentParser(prog="benchmarks.pipeline", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of fewer events: a look, no measurement")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="iotcloud-bench-") as folder:
        found = [_compare(case, Path(folder) / str(number), quick=options.quick) for number, case in enumerate(CASES)]
        backlog = None if options.quick else _backlog(Path(folder) / "backlog")
    _show(found, backlog)
    if not options.quick:
        progress(f"written to {write_result('pipeline', {'cases': found, 'backlog': backlog})}")
    return 0 if all(case["met"] and case["equal"] for case in found) else 1


def _compare(case: Case, folder: Path, *, quick: bool) -> dict[str, Any]:
    large = max(case.small, case.large // 5) if quick else case.large
    runs = _Runs(case, folder)
    same = runs.rows_of("classic", case.small) == runs.rows_of("columns", case.small)
    measured = interleaved(
        {"classic": lambda: runs.rate("classic", case.small), "columns": lambda: runs.rate("columns", large)},
        rounds=1 if quick else 3,
    )
    ratio = measured["columns"].median / measured["classic"].median
    return {
        "case": case.name,
        "classic": round(measured["classic"].median),
        "columns": round(measured["columns"].median),
        "ratio": round(ratio, 1),
        "target": case.target,
        "met": ratio >= case.target,
        "equal": same,
        "runs": {name: [round(rate) for rate in one.rates] for name, one in measured.items()},
        "job_megabytes": runs.job_megabytes,
        "prism_megabytes": runs.prism_megabytes,
    }


class _Runs:
    """Runs of one case, each in a process and a folder of its own."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case = case
        self._folder = folder
        self._logs: dict[int, str] = {}
        self._number = 0
        self.job_megabytes = 0
        self.prism_megabytes = 0

    def rate(self, what: str, events: int) -> float:
        """Events per second of CPU."""
        found = self.run(what, events)
        return float(found["events"] / found["cpu_seconds"])

    def rows_of(self, what: str, events: int) -> str:
        return str(self.run(what, events)["digest"])

    def run(self, what: str, events: int) -> dict[str, Any]:
        case = self._case
        self._number += 1
        folder = self._folder / f"run-{self._number}"
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.streams", f"{case.runner}-{what}", "--events", str(events)]
        command += ["--per-frame", str(case.per_frame), "--series", str(case.series), "--window", str(case.window)]
        command += ["--out", str(folder / "rows.sqlite"), "--log", self._log(events) if case.runner == "prism" else ""]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise SystemExit(f"{case.name}: {what} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        if what == "columns":
            self.job_megabytes = max(self.job_megabytes, found["job_megabytes"])
            self.prism_megabytes = max(self.prism_megabytes, found["prism_megabytes"])
        return found

    def _log(self, events: int) -> str:
        if events not in self._logs:
            progress(f"{self._case.name}: a log of {events:,} events")
            self._logs[events] = fill_log(
                self._folder / f"log-{events}", events, per_frame=self._case.per_frame, series=self._case.series
            )
        return self._logs[events]


def _backlog(folder: Path) -> list[dict[str, int]]:
    """Greatest memory while backlogs of different length are read."""
    case = CASES[2]
    found = []
    for events in (case.large // BACKLOG, case.large, case.large * BACKLOG):
        runs = _Runs(case, folder / str(events))
        runs.run("columns", events)
        found.append({"events": events, "job_megabytes": runs.job_megabytes, "prism_megabytes": runs.prism_megabytes})
    return found


def _show(found: list[dict[str, Any]], backlog: list[dict[str, int]] | None) -> None:
    width = max(len(case["case"]) for case in found)
    lines = [f"{'events per second of CPU':{width}}  {'classic':>9}  {'columns':>9}  {'ratio':>6}  target  rows"]
    lines += [
        f"{case['case']:{width}}  {case['classic']:>9,}  {case['columns']:>9,}  {case['ratio']:>6}  {case['target']:>6}  "
        + ("equal" if case["equal"] else "DIFFER")
        + ("" if case["met"] else "  BELOW TARGET")
        for case in found
    ]
    lines += [
        f"backlog of {one['events']:,} events: job {one['job_megabytes']} MB, Prism {one['prism_megabytes']} MB at most"
        for one in backlog or []
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
