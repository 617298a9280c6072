"""``export``: events as CSV or Parquet, a file for each hour and schema."""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apache_beam as beam
import polars as pl

from pipelines.batch import notes
from pipelines.batch.choosing import Choice, choice
from pipelines.batch.notes import Counted
from pipelines.batch.options import batch_parser, parse, time_of
from pipelines.batch.progress import progress_of
from pipelines.batch.running import batch_job
from schemas.errors import ConfigurationError
from storage.errors import StoreUnavailable
from storage.events.files import open_files
from storage.events.forms import as_times
from storage.events.hours import events_of
from storage.events.layout import Hour, hours
from storage.events.schema import TOPIC, topic_field


@dataclass(frozen=True)
class ExportSettings:
    """What the function needs; it goes through pickle with the pipeline."""

    job: str
    url: str
    work: str
    folder: str
    choice: Choice
    form: Literal["csv", "parquet"]
    output: str


class ExportHours(beam.DoFn):
    """Paths of hours in, nothing out."""

    def __init__(self, settings: ExportSettings) -> None:
        self._settings = settings

    def process(self, element: str) -> Iterator[None]:
        settings = self._settings
        hour = Hour.parse(element)
        tables: dict[str, list[pl.DataFrame]] = {}
        for schema, events in events_of(open_files(settings.url), hour):
            progress_of(settings.job).check()
            chosen = settings.choice.of(events)
            if len(chosen):
                named = as_times(chosen).rename({TOPIC: topic_field(schema)})
                tables.setdefault(schema.fingerprint.hex(), []).append(named)
        for number, table in enumerate(pl.concat(parts) for parts in tables.values()):
            version = f"-{number}" if number else ""
            name = f"{hour.name}-{hour.path.split('/')[2][3:]}T{hour.path[-2:]}{version}.{settings.form}"
            _write(table, Path(settings.output) / name, settings.form)
            notes.leave(open_files(settings.work), settings.folder, "exported", Counted(events=len(table)))
        progress_of(settings.job).advance()
        yield from ()


def _write(events: pl.DataFrame, path: Path, form: str) -> None:
    """A file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if form == "parquet":
            events.write_parquet(partial)
        else:
            # CSV has no bytes: hexadecimal stands for them.
            binary = [name for name, dtype in events.schema.items() if dtype == pl.Binary]
            events.with_columns(pl.col(binary).bin.encode("hex")).write_csv(partial, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreUnavailable(f"{path}: {error.strerror or error}", remedy="name another --output") from error


def main(arguments: Sequence[str]) -> int:
    """See `pipelines.run.main`."""
    parser = batch_parser("export", "Write events as CSV or Parquet, a file for each hour and schema.")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the files go; made when needed")
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="csv unless given")
    parser.add_argument("--between", nargs=2, metavar=("FROM", "TO"), help="event times, the second one exclusive")
    parser.add_argument("--select", default="", metavar="KEY=PATTERN,…", help="of topic, gateway, device, channel")
    parser.add_argument("--schema", metavar="NAME", help="only events of this schema")
    options = parse(parser, arguments)
    chosen = choice(options.select, *(time_of(text) for text in options.between or ()))
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output {options.output}: {error.strerror}", remedy="name a directory") from error
    listed = hours(open_files(options.archive), start=chosen.start, end=chosen.end, name=options.schema)
    work = tempfile.mkdtemp(prefix="iotcloud-export-")
    try:
        folder = open_files(f"files:{work}").stage()
        name = f"export-{uuid.uuid4()}"
        settings = ExportSettings(
            name, options.archive, f"files:{work}", folder, chosen, options.format, str(options.output.absolute())
        )
        with batch_job(name, options) as job:

            def build(pipeline: beam.Pipeline) -> None:
                paths = pipeline | "Hours" >> beam.Create([hour.path for hour in listed]) | "Spread" >> beam.Reshuffle()
                _ = paths | "Export" >> beam.ParDo(ExportHours(settings))

            if listed:
                job.run("hours", len(listed), build)
        written = list(notes.found(open_files(settings.work), folder, "exported", Counted))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.stdout.write(f"{sum(note.events for note in written)} events in {len(written)} files in {options.output}\n")
    return 0
