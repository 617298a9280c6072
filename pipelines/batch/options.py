"""What the command lines of all batch jobs share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pipelines.config import load_config, load_schemas
from pipelines.options import Parser, check_beam
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema
from settings import bytes_of, seconds_of
from telemetry import logs

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def batch_parser(job: str, description: str) -> Parser:
    """A parser with the options that every batch job has."""
    parser = Parser(prog=f"pipelines.run {job}", description=description, allow_abbrev=False)
    parser.add_argument("--archive", required=True, metavar="URL", help="a directory, or hdfs://HOST:9870/DIR?user=…")
    running = parser.add_argument_group("running")
    running.add_argument("--runner", default="DirectRunner", help="DirectRunner (default, in memory), PrismRunner, FlinkRunner")
    running.add_argument("--prism_location", metavar="PATH", help="the Prism binary")
    running.add_argument(
        "--progress", choices=("auto", "always", "never"), default="auto", help="a bar, by default on a terminal"
    )
    running.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    return parser


def parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with those left for Beam as ``beam``, ``--archive`` as a URL, and logs as they are asked for.

    Raises `ConfigurationError`.
    """
    known, rest = parser.parse_known_args(list(arguments))
    check_beam(rest, parser)
    known.beam = tuple(rest)
    known.archive = known.archive if _SCHEME.match(known.archive) else f"files:{known.archive}"
    logs.configure(level=known.log_level)
    return known


def schemas_of(pipeline: Path | None, files: Sequence[Path] = ()) -> tuple[EventSchema, ...]:
    """The shipped schemas, those of a pipeline's file, and those in ``files``. Raises `ConfigurationError`, `SchemaError`."""
    from schemas.registry import Schemas, load_event_schema

    return tuple(Schemas([*load_schemas(load_config(pipeline), pipeline), *map(load_event_schema, files)]))


def time_of(text: str) -> int:
    """µs since 1970, UTC, of a time such as ``2026-11-23T10:00`` (UTC unless it says otherwise). Raises `ConfigurationError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no time", remedy="write 2026-11-23, 2026-11-23T10:00 or 2026-11-23T10:00:00Z"
        ) from None
    return micros(found if found.tzinfo is not None else found.replace(tzinfo=UTC))


def micros(time: datetime) -> int:
    """µs since 1970, UTC, of an aware time."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def text_of(time: int) -> str:
    """The inverse of `time_of`."""
    return (_EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")


def duration_of(text: str) -> int:
    """µs of a duration such as ``90d``. Raises `ConfigurationError`."""
    try:
        return round(seconds_of(text) * 1_000_000)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no duration", remedy="write 36h or 90d") from error


def size_of(text: str) -> int:
    """Bytes of a size such as ``128MiB``. Raises `ConfigurationError`."""
    try:
        return bytes_of(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no size", remedy="write 4096, 64MB or 1GiB") from error
