"""Which runner a job may use, and how it is reached."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.runners.prism import EXPERIMENTS, find_prism, running_prism
from schemas.errors import ConfigurationError

_STREAMING: Final = ("PrismRunner", "FlinkRunner", "PortableRunner")
_REFUSED: Final = {
    "DirectRunner": "it runs streams on an engine on which no event-time window ever fires",
    "BundleBasedDirectRunner": "it has no state or timers for splittable sources",
    "SwitchingDirectRunner": "it runs streams on an engine on which no event-time window ever fires",
    "SparkRunner": "Beam's portable Spark runner has no streaming with state and timers",
}


@dataclass(frozen=True)
class Runner:
    """A runner that is ready: options for Beam, and the process it runs in, if we started it."""

    options: PipelineOptions
    process: subprocess.Popen[bytes] | None


def check_streaming(name: str) -> None:
    """Raises `ConfigurationError`, with the reason, unless streams can run on the runner of this name."""
    if name in _STREAMING:
        return
    if name in _REFUSED:
        raise ConfigurationError(f"--runner={name} cannot run this job: {_REFUSED[name]}", remedy="use --runner=PrismRunner")
    near = difflib.get_close_matches(name, _STREAMING, n=1)
    raise ConfigurationError(
        f"--runner={name} is not known for streams",
        remedy=f"did you mean {near[0]}?" if near else "one of " + ", ".join(_STREAMING),
    )


@contextmanager
def ready_runner(name: str, beam_arguments: Sequence[str], *, prism_location: str | None) -> Iterator[Runner]:
    """Start what the runner needs. Raises `ConfigurationError` or `PrismFailed`."""
    if name != "PrismRunner":
        yield Runner(PipelineOptions([f"--runner={name}", "--streaming", *beam_arguments]), None)
        return
    with running_prism(find_prism(prism_location)) as (endpoint, process):
        arguments = [
            "--runner=PortableRunner",
            f"--job_endpoint={endpoint}",
            "--environment_type=LOOPBACK",
            "--streaming",
            *(f"--experiments={name}" for name in EXPERIMENTS),
            *beam_arguments,
        ]
        yield Runner(PipelineOptions(arguments), process)
