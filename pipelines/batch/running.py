"""A bounded pipeline until its end: the runner, a bar, signals."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.batch.progress import BatchProgress, Interrupted, progress_of
from pipelines.runners.prism import EXPERIMENTS, find_prism, running_prism
from pipelines.running import JobFailed, quiet_workers
from pipelines.signals import Signals
from schemas.errors import IoTCloudError

_LOOK_SECONDS: Final = 0.05
#: How long functions that run may take to notice that they shall stop.
_STOP_SECONDS: Final = 30.0
#: In memory, and in this process; Beam's own "DirectRunner" may choose another one.
_IN_MEMORY: Final = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class BatchJob:
    """What a job's pipelines run in. Made by `batch_job`."""

    def __init__(self, name: str, options: PipelineOptions, signals: Signals, runner: Any, bar: Progress | None) -> None:
        self.name = name
        self._options = options
        self._signals = signals
        self._runner = runner
        self._bar = bar

    @property
    def progress(self) -> BatchProgress:
        return progress_of(self.name)

    def check(self) -> None:
        """Raises `Interrupted` when a signal has come."""
        if self._signals.received:
            self.progress.stopping.set()
        self.progress.check()

    def run(self, title: str, total: int, build: Callable[[beam.Pipeline], None]) -> None:
        """Run what ``build`` puts into a pipeline, whose functions advance the job's progress ``total`` times.

        Raises `Interrupted`, `JobFailed`, and what a function has raised where that is known.
        """
        self.check()
        work = _Work(self._options, build)
        before = self.progress.done
        task = self._bar.add_task(title, total=total) if self._bar else None
        work.start()
        while work.is_alive():
            work.join(_LOOK_SECONDS)
            if self._bar and task is not None:
                self._bar.update(task, completed=self.progress.done - before)
            if self._runner is not None and self._runner.poll() is not None:
                raise JobFailed(f"the runner ended with {self._runner.returncode}", remedy="run the job again")
            if self._signals.received:
                self.progress.stopping.set()
                self._wait_for(work)
                break
        self.check()
        if work.error is not None:
            remedies = [*_remedies(work.error), "run it again: nothing is half done"]
            raise JobFailed(f"the job failed: {_reason(work.error)}", remedy="; then ".join(remedies)) from work.error
        if self._bar and task is not None:
            self._bar.update(task, completed=total)

    def _wait_for(self, work: threading.Thread) -> None:
        """Until the functions have noticed; a second signal waits no longer."""
        until = time.monotonic() + _STOP_SECONDS
        while work.is_alive() and self._signals.received < 2 and time.monotonic() < until:
            work.join(_LOOK_SECONDS)


class _Work(threading.Thread):
    def __init__(self, options: PipelineOptions, build: Callable[[beam.Pipeline], None]) -> None:
        super().__init__(name="batch", daemon=True)
        self._options = options
        self._build = build
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            pipeline = beam.Pipeline(options=self._options)
            self._build(pipeline)
            result = pipeline.run()
            state = str(result.wait_until_finish())
            if state != "DONE":
                raise JobFailed(f"it ended as {state}")
        except BaseException as error:  # noqa: BLE001  (reported where the job was started)
            self.error = error


@contextmanager
def batch_job(name: str, options: argparse.Namespace) -> Iterator[BatchJob]:
    """Start what the runner of ``options`` (`pipelines.batch.options.parse`) needs, answer signals, and show a bar.

    Raises `ConfigurationError`, `PrismFailed`.
    """
    signals = Signals()
    console = Console(stderr=True, force_terminal=True if options.progress == "always" else None)
    shown = options.progress == "always" or (options.progress == "auto" and sys.stderr.isatty())
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    ready = _ready(options.runner, options.beam, options.prism_location)
    with signals.installed(), quiet_workers(), ready as (beam_options, process):
        if not shown:
            yield BatchJob(name, beam_options, signals, process, None)
            return
        with Progress(*columns, console=console) as bar:
            yield BatchJob(name, beam_options, signals, process, bar)


@contextmanager
def _ready(name: str, more: Sequence[str], prism_location: str | None) -> Iterator[tuple[PipelineOptions, Any]]:
    if name == "PrismRunner":
        with running_prism(find_prism(prism_location)) as (endpoint, process):
            experiments = [f"--experiments={experiment}" for experiment in EXPERIMENTS]
            connection = ["--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"]
            yield PipelineOptions([*connection, *experiments, *more]), process
        return
    yield PipelineOptions([f"--runner={_IN_MEMORY if name == 'DirectRunner' else name}", *more]), None


def _reason(error: BaseException) -> str:
    """The last line of what a runner says of a function that failed; all else is its own stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    known = [line for line in lines if "storage.errors." in line or "schemas.errors." in line]
    return (known or lines or [repr(error)])[0 if known else -1]


def _remedies(error: BaseException | None) -> list[str]:
    """What to do about an error, as it said before Beam made another one of it; none where that is not known."""
    while error is not None:
        if isinstance(error, IoTCloudError) and error.remedy:
            return [error.remedy]
        error = error.__context__
    return []


__all__ = ["BatchJob", "Interrupted", "batch_job"]
