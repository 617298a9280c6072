"""The command line of ``python -m pipelines.run``. What is not ours must be Beam's; anything else is refused."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

from brokers.url import split_topics
from pipelines import batch
from pipelines.sources.discovery import Source
from schemas.errors import ConfigurationError
from schemas.topics import PIPELINES

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
JOBS: Final = ("realtime", "archive")


@dataclass(frozen=True)
class Options:
    """Parsed arguments; ``beam`` are those left for Beam."""

    job: str
    runner: str
    sources: tuple[Source, ...]
    master: str
    select: str
    token: str
    pipeline: Path | None
    sinks: tuple[str, ...]
    archive: str
    relay: str
    state: Path | None
    prism_location: str | None
    metrics_port: int
    status_file: Path | None
    until_end: bool
    close_on_drain: bool
    dry_run: bool
    group: str
    credit: int
    log_level: str
    beam: tuple[str, ...] = ()


class Parser(argparse.ArgumentParser):
    """Raises `ConfigurationError` where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message, remedy=f"see python -m {self.prog} --help")


def parse_options(argv: Sequence[str]) -> Options:
    """Raises `ConfigurationError`; prints help and raises `SystemExit` for ``--help``."""
    parser = _parser()
    known, rest = parser.parse_known_args(list(argv))
    check_beam(rest, parser)
    sources = tuple(Source(*split_topics(text)) for text in known.source)
    _check_sources(sources, known.master)
    return Options(
        job=known.job,
        runner=known.runner,
        sources=sources,
        master=known.master,
        select=known.select,
        token=known.token,
        pipeline=known.pipeline,
        sinks=tuple(known.sink),
        archive=_archive(known.archive, known.job),
        relay=known.relay,
        state=known.state,
        prism_location=known.prism_location,
        metrics_port=known.metrics_port,
        status_file=known.status_file,
        until_end=known.until_end,
        close_on_drain=known.close_on_drain,
        dry_run=known.dry_run,
        group=known.group,
        credit=known.credit,
        log_level=known.log_level,
        beam=tuple(rest),
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="pipelines.run", description="Run a pipeline.", allow_abbrev=False)
    parser.add_argument("job", metavar="JOB", choices=JOBS, help=", ".join((*JOBS, *batch.JOBS)))
    parser.add_argument("--runner", default="PrismRunner", help="PrismRunner (default), FlinkRunner, PortableRunner")
    sources = parser.add_argument_group("what to read")
    sources.add_argument(
        "--source", action="append", default=[], metavar="URL/TOPIC[,TOPIC]", help="topics of a broker; they need not exist yet"
    )
    sources.add_argument("--master", default="", metavar="URL", help="ask this master for the topics")
    sources.add_argument("--select", default="", metavar="KEY=VALUE,…", help="which channels to read, with --master")
    sources.add_argument("--token", default="", help="token for the master; ${VAR} and file:PATH are understood")
    sources.add_argument("--until-end", action="store_true", help="read what there is, close all windows, write, exit")
    sources.add_argument(
        "--relay", default="", metavar="LOG_URL", help="log that queues are moved into and read from (default: one in --state)"
    )
    what = parser.add_argument_group("what to do")
    what.add_argument("--pipeline", type=Path, metavar="FILE", help="TOML: windows, rules, sinks, schemas")
    what.add_argument(
        "--sink", action="append", default=[], metavar="URL", help="where results go, such as sqlite:results.sqlite"
    )
    what.add_argument("--archive", default="", metavar="URL", help="where raw frames go: a directory, or a store's URL")
    running = parser.add_argument_group("running")
    running.add_argument("--state", type=Path, metavar="DIR", help="what a restart needs is kept here")
    running.add_argument("--prism_location", metavar="PATH", help="the Prism binary")
    running.add_argument("--metrics-port", type=int, default=0, help="port of /metrics and /api/v1/status; 0 takes a free one")
    running.add_argument("--status-file", type=Path, metavar="FILE", help="write pid and port here once the job runs")
    running.add_argument("--close-on-drain", action="store_true", help="SIGTERM also closes and writes windows still open")
    running.add_argument("--dry-run", action="store_true", help="print the plan, check sources and sinks, run nothing")
    running.add_argument("--group", default=PIPELINES, help="the job's name at brokers; at a queue every job needs its own")
    running.add_argument("--credit", type=int, default=20_000_000, metavar="BYTES", help="bytes under way before decoding")
    running.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _archive(text: str, job: str) -> str:
    if job == "archive" and not text:
        raise ConfigurationError("the job 'archive' needs --archive", remedy="give a directory, or a store's URL")
    return text if not text or _SCHEME.match(text) else f"files:{text}"


def _check_sources(sources: Sequence[Source], master: str) -> None:
    if bool(sources) == bool(master):
        raise ConfigurationError(
            "both --source and --master" if sources else "nothing to read", remedy="give --source URL/TOPIC, or --master URL"
        )
    seen: set[tuple[str, str]] = set()
    for source in sources:
        for topic in source.topics:
            if (source.url, topic) in seen:
                raise ConfigurationError(f"the topic {topic!r} is given twice", remedy="a job reads a topic of a broker once")
            seen.add((source.url, topic))


def check_beam(rest: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Raises `ConfigurationError` unless the arguments that ``parser`` has left are Beam's."""
    ours = {name for action in parser._actions for name in action.option_strings}  # noqa: SLF001
    beams = _beam_options()
    expects_value = False
    for argument in rest:
        if not argument.startswith("--"):
            if not expects_value:
                raise ConfigurationError(f"unexpected argument {argument!r}")
            expects_value = False
            continue
        name, equals, _ = argument.partition("=")
        if name not in beams:
            near = difflib.get_close_matches(name, sorted(ours | beams), n=1, cutoff=0.6)
            raise ConfigurationError(
                f"unknown option {name}", remedy=f"did you mean {near[0]}?" if near else "see python -m pipelines.run --help"
            )
        expects_value = not equals


@cache
def _beam_options() -> frozenset[str]:
    """All options that Beam's own option classes declare."""
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    parser.add_argument("--runner")
    pending = list(PipelineOptions.__subclasses__())
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        declare = kind.__dict__.get("_add_argparse_args")
        if declare is not None:
            declare.__get__(None, kind)(_Lenient(parser))
    return frozenset(name for action in parser._actions for name in action.option_strings)  # noqa: SLF001


class _Lenient:
    """An argument parser for Beam's declarations, which use a method argparse does not have."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def add_argument(self, *names: str, **settings: object) -> object:
        return self._parser.add_argument(*names, **settings)  # type: ignore[arg-type]

    def add_value_provider_argument(self, *names: str, **_: object) -> object:
        return self._parser.add_argument(*names)
