"""``python -m benchmarks.streams WHAT …``: one run in a process of its own; prints what it came to as JSON.

CPU time is that of this process and of the Prism it started, from where the job is handed over until its last row is
written. A run of few events comes before it, so that what Python loads once is not measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.streams import classic
from benchmarks.streams.events import TOPIC, BlocksOf, FramesOf, fill_log, frames
from pipelines.run import main as run_pipeline
from pipelines.runners.prism import EXPERIMENTS, find_prism, running_prism
from pipelines.session import close_session, open_session
from pipelines.sources.discovery import Partitions, ReadLog, Source
from pipelines.sources.log import ReadSettings
from schemas.registry import Schemas
from transforms.admit import ADMITTED, DEAD, GAPS, NOTES, Admit, AdmitSettings
from transforms.windowing import AggregateInWindows
from transforms.windows import WindowSpec

#: Events of the run that is not measured.
WARM = 2_000


def main() -> int:
    arguments = _arguments()
    run = {
        "memory-classic": memory_classic,
        "memory-columns": memory_columns,
        "prism-classic": prism_classic,
        "prism-columns": prism_columns,
    }[arguments.what]
    folder = Path(arguments.out).parent / "warm"
    folder.mkdir()
    log = fill_log(folder / "log", WARM, per_frame=arguments.per_frame, series=arguments.series)
    run(argparse.Namespace(**{**vars(arguments), "events": WARM, "log": log, "out": str(folder / "rows.sqlite")}))
    found = run(arguments)
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    return 0


def memory_classic(arguments: argparse.Namespace) -> dict[str, Any]:
    """The classic pipeline on frames in memory, on Beam's FnApiRunner."""
    path = _file(arguments)
    began = _cpu()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | beam.Create([path], reshuffle=False) | beam.ParDo(FramesOf())
        _ = classic.aggregate(found, arguments.window) | beam.ParDo(classic.WriteRows(arguments.out))
    return _result(arguments, began, lambda: _rows(arguments.out, "rows"))


def memory_columns(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ours on the same frames as blocks, on the same runner."""
    windows = (WindowSpec("window", arguments.window, arguments.window),)
    path = _file(arguments)
    began = _cpu()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        admit = beam.ParDo(Admit(AdmitSettings(tuple(Schemas.with_shipped()), windows, snapshot_every=0)))
        blocks = pipeline | beam.Create([path], reshuffle=False) | beam.ParDo(BlocksOf()).with_output_types(tuple[str, bytes])
        admitted = blocks | admit.with_outputs(DEAD, GAPS, NOTES, main=ADMITTED)
        rows = (admitted[ADMITTED] | AggregateInWindows(windows))["rows"]
        _ = rows | beam.FlatMap(_plain) | beam.ParDo(classic.WriteRows(arguments.out))
    return _result(arguments, began, lambda: _rows(arguments.out, "rows"))


def prism_classic(arguments: argparse.Namespace) -> dict[str, Any]:
    """The classic pipeline on Prism, from the log."""
    job = "bench"
    open_session(job, credit=1 << 40)
    began = _cpu()
    with running_prism(find_prism()) as (endpoint, _):
        options = [f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", "--streaming"]
        options += ["--runner=PortableRunner", *(f"--experiments={name}" for name in EXPERIMENTS)]
        pipeline = beam.Pipeline(options=PipelineOptions(options))
        settings = ReadSettings(job, until_end=True)
        partitions = pipeline | Partitions((Source(arguments.log, (TOPIC,)),), settings)
        blocks = partitions | ReadLog(settings)
        # The source stamps blocks with its watermark; an element stamped with its own time is never before it.
        rows = classic.aggregate(blocks | beam.ParDo(classic.Frames()), arguments.window)
        _ = rows | beam.ParDo(classic.WriteRows(arguments.out))
        pipeline.run().wait_until_finish()
    close_session(job)
    return _result(arguments, began, lambda: _rows(arguments.out, "rows"))


def prism_columns(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole job as users run it."""
    folder = Path(arguments.out).parent
    file = folder / "pipeline.toml"
    file.write_text(f'[windows.window]\nsize = {arguments.window / 1e6}\nallowed_lateness = "1h"\n')
    command = ["realtime", "--source", f"{arguments.log}/{TOPIC}", "--pipeline", str(file), "--until-end"]
    command += ["--sink", f"sqlite:{arguments.out}", "--state", str(folder / "state"), "--log-level", "error"]
    began = _cpu()
    if run_pipeline(command):
        raise SystemExit("the pipeline failed")
    return _result(arguments, began, lambda: _rows(arguments.out, "aggregates_micros"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--per-frame", type=int, required=True)
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--window", type=int, required=True, help="µs")
    parser.add_argument("--out", required=True, help="path of the database rows are written to")
    parser.add_argument("--log", default="", help="URL of the broker to read")
    return parser.parse_args()


def _file(arguments: argparse.Namespace) -> str:
    """A file of the frames, each after its length; an element given to Create would be packed into the pipeline itself."""
    path = Path(arguments.out).with_suffix(".frames")
    with path.open("wb") as file:
        for frame in frames(arguments.events, per_frame=arguments.per_frame, series=arguments.series):
            file.write(len(frame).to_bytes(4, "little") + frame)
    return str(path)


def _plain(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    names = ("window_start", "window_end", "device", "channel", "count", "sum", "mean", "min", "max")
    return table.select(names).rows()


def _rows(path: str, table: str) -> list[tuple[Any, ...]]:
    names = "device, channel, count, sum, mean, min, max"
    bounds = "start, stop" if table == "rows" else "window_start, window_end"
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {bounds}, {names} FROM {table}").fetchall()


def _cpu() -> tuple[float, float]:
    mine, prisms = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + prisms.ru_utime + prisms.ru_stime, time.monotonic()


def _result(arguments: argparse.Namespace, began: tuple[float, float], read: Callable[[], list[Any]]) -> dict[str, Any]:
    ended = _cpu()
    rows = read()
    counted = sum(row[4] for row in rows)
    if counted != arguments.events:
        raise SystemExit(f"{counted} events were counted, {arguments.events} were given")
    text = "\n".join(repr(row) for row in sorted(rows))
    return {
        "cpu_seconds": ended[0] - began[0],
        "seconds": ended[1] - began[1],
        "events": arguments.events,
        "rows": len(rows),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "job_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
        "prism_megabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1000,
    }


if __name__ == "__main__":
    sys.exit(main())
