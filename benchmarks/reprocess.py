"""``reprocess`` beside the classic Beam batch job over the same stored events: events per second of CPU, rows compared.

The classic job is what one writes with Beam alone: ReadFromAvro, one element per event, WindowInto, CombinePerKey. Both read
the ``events/`` that ``compact`` has made, on the same runner, and write their rows to SQLite. CPU is that of the job and of
Prism together. Every run is a process of its own; contestants take turns; ratios are of medians.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import interleaved, progress, write_result

_ROOT: Final = Path(__file__).parent.parent
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
CLASSIC, OURS = "classic", "reprocess"
#: µs between events: 360,000 an hour.
_STEP: Final = 10_000
_PER_FRAME: Final = 100
#: Events of the run that is not measured.
_WARM: Final = 2_000
#: As many times the classic job as ours is to be at least.
_WANTED: Final = 15.0


@dataclass(frozen=True)
class Case:
    """One comparison. ``small`` events go through both and must give the same rows; ours is timed on ``large``."""

    name: str
    runner: str
    series: int
    #: Events per window and series.
    dense: int
    small: int = 100_000
    large: int = 2_000_000

    @property
    def window(self) -> int:
        """Seconds."""
        return self.dense * self.series * _STEP // 1_000_000


CASES: Final = (
    Case("in memory, 200 series, 90 events per window and series", "DirectRunner", 200, 90),
    Case("in memory, 4,000 series, 9 events per window and series", "DirectRunner", 4_000, 9),
    Case("Prism, 200 series, 90 events per window and series", "PrismRunner", 200, 90),
)


def main(arguments: list[str]) -> int:
    """Returns 0 when all rows are equal and ours is as much faster as wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reprocess", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of fewer events: a look, no measurement")
    parser.add_argument("--contestant", choices=[CLASSIC, OURS], help=argparse.SUPPRESS)
    parser.add_argument("--runner", default="", help=argparse.SUPPRESS)
    parser.add_argument("--window", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contestant:
        sys.stdout.write("\n" + json.dumps(_run(given)) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="iotcloud-bench-") as folder:
        found = [_compare(case, Path(folder) / str(number), quick=given.quick) for number, case in enumerate(CASES)]
    _show(found)
    if not given.quick:
        progress(f"written to {write_result('reprocess', {'wanted': _WANTED, 'cases': found})}")
    return 0 if all(case["ratio"] >= _WANTED and case["equal"] for case in found) else 1


def _compare(case: Case, folder: Path, *, quick: bool) -> dict[str, Any]:
    large = case.large // 5 if quick else case.large
    archives = {events: _archive(folder / f"archive-{events}", case, events) for events in (_WARM, case.small, large)}
    runs: list[dict[str, Any]] = []

    def run(contestant: str, events: int) -> dict[str, Any]:
        out = folder / f"run-{len(runs)}"
        runs.append(_process(case, contestant, archives[events], out, warm=archives[_WARM]))
        if runs[-1]["counted"] != events:
            raise SystemExit(f"{contestant}: {runs[-1]['counted']} events were counted, {events} are stored")
        return {"events": events, "contestant": contestant, **runs[-1]}

    def rate(contestant: str, events: int) -> float:
        return float(events / run(contestant, events)["cpu_seconds"])

    same = run(CLASSIC, case.small)["digest"] == run(OURS, case.small)["digest"]
    measured = interleaved(
        {CLASSIC: partial(rate, CLASSIC, case.small), OURS: partial(rate, OURS, large)}, rounds=1 if quick else 3
    )
    return {
        "case": case.name,
        "events": {CLASSIC: case.small, OURS: large},
        "medians": {name: round(one.median) for name, one in measured.items()},
        "ratio": round(measured[OURS].median / measured[CLASSIC].median, 1),
        "equal": same,
        "rates": {name: [round(value) for value in one.rates] for name, one in measured.items()},
        "megabytes": max(one["megabytes"] for one in runs),
    }


def _archive(root: Path, case: Case, events: int) -> Path:
    """A journal of as many events, compacted."""
    from benchmarks.streams.events import TOPIC, frames
    from schemas.registry import Schemas
    from storage import open_journal

    journal = open_journal(f"files:{root}", Schemas.with_shipped())
    records = []
    for offset, frame in enumerate(frames(events, per_frame=_PER_FRAME, series=case.series, step=_STEP)):
        records.append((offset, 0, "gateway-1", frame))
        if len(records) == 2_000:
            journal.append(TOPIC, 0, records, first=records[0][0])
            records = []
    if records:
        journal.append(TOPIC, 0, records, first=records[0][0])
    journal.close()
    command = [sys.executable, "-m", "pipelines.run", "compact", "--archive", str(root)]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, timeout=900)
    return root


def _process(case: Case, contestant: str, archive: Path, out: Path, *, warm: Path) -> dict[str, Any]:
    out.mkdir()
    (out / "warm").symlink_to(warm)
    command = [sys.executable, "-m", "benchmarks.reprocess", "--contestant", contestant, "--runner", case.runner]
    command += ["--window", str(case.window), "--archive", str(archive), "--out", str(out)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise SystemExit(f"{case.name}: {contestant} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def _run(given: argparse.Namespace) -> dict[str, Any]:
    """One run, after one of few events: what Python loads once is not measured."""
    job: Callable[[str, int, Path, Path], tuple[str, str]] = {CLASSIC: _classic, OURS: _reprocess}[given.contestant]
    job(given.runner, given.window, given.out / "warm", given.out / "warm.sqlite")
    began = _cpu_seconds()
    path = given.out / "rows.sqlite"
    table, bounds = job(given.runner, given.window, given.archive, path)
    elapsed = _cpu_seconds() - began
    rows = _rows(path, table, bounds)
    text = "\n".join(repr(row) for row in rows)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "cpu_seconds": elapsed,
        "counted": sum(row[4] for row in rows),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "megabytes": usage // 1000,
    }


def _cpu_seconds() -> float:
    mine, prisms = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + prisms.ru_utime + prisms.ru_stime


def _rows(path: Path, table: str, bounds: str) -> list[tuple[Any, ...]]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as database:
        order = f"{bounds}, device, channel"
        return database.execute(f"SELECT {order}, count, sum, mean, min, max FROM {table} ORDER BY {order}").fetchall()


def _reprocess(runner: str, window: int, archive: Path, path: Path) -> tuple[str, str]:
    from pipelines.run import main as run_pipeline

    pipeline = path.with_suffix(".toml")
    pipeline.write_text(f"[windows.window]\nsize = {window}\n")
    command = [
        "reprocess",
        "--archive",
        str(archive),
        "--pipeline",
        str(pipeline),
        "--sink",
        f"sqlite:{path}",
        "--runner",
        runner,
    ]
    if run_pipeline([*command, "--log-level", "error"]):
        raise SystemExit("reprocess failed")
    return "aggregates_micros", "window_start, window_end"


def _classic(runner: str, window: int, archive: Path, path: Path) -> tuple[str, str]:
    import apache_beam as beam
    from apache_beam.io import ReadFromAvro
    from apache_beam.transforms.window import FixedWindows

    from benchmarks.streams import classic
    from pipelines.batch.running import batch_job

    with batch_job("classic", argparse.Namespace(runner=runner, beam=(), prism_location=None, progress="never")) as job:

        def build(pipeline: Any) -> None:
            _ = (
                pipeline
                | ReadFromAvro(f"{archive}/events/schema=Reading/dt=*/hour=*/part-*.avro")
                | "Times" >> beam.FlatMap(_timed)
                | beam.WindowInto(FixedWindows(window))
                | beam.CombinePerKey(classic.Statistics())
                | beam.ParDo(classic.Row())
                | beam.ParDo(classic.WriteRows(str(path)))
            )

        job.run("classic", 0, build)
    return "rows", "start, stop"


def _timed(event: dict[str, Any]) -> Iterator[Any]:
    from apache_beam.transforms.window import TimestampedValue
    from apache_beam.utils.timestamp import Timestamp

    time = (event["event_time"] - _EPOCH) // timedelta(microseconds=1)
    yield TimestampedValue(((event["device"], event["channel"]), event["value"]), Timestamp(micros=time))


def _show(found: list[dict[str, Any]]) -> None:
    width = max(len(case["case"]) for case in found)
    lines = [f"{'events per second of CPU':{width}}  {CLASSIC:>9}  {OURS:>9}  {'ratio':>6}  rows"]
    for case in found:
        medians = case["medians"]
        line = f"{case['case']:{width}}  {medians[CLASSIC]:>9,}  {medians[OURS]:>9,}  {case['ratio']:>6}  "
        lines.append(
            line + ("equal" if case["equal"] else "DIFFER") + ("" if case["ratio"] >= _WANTED else "  BELOW WHAT IS WANTED")
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
