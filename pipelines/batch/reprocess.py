"""``reprocess``: windows, latest values and rules over what is stored, replacing the rows of sinks. See storage/events/README.md.

The same functions as in the real-time job, on bounded input: for the same events the rows are the same. Nothing is late here, so
events that the real-time job had to set aside as too late are counted. What rules would have done is listed, and not done.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import apache_beam as beam
import msgspec
import polars as pl

from pipelines.batch import notes
from pipelines.batch.choosing import Choice, choice
from pipelines.batch.inputs import COUNTED, EventHours, InputSettings, JournalPartitions
from pipelines.batch.notes import Counted
from pipelines.batch.options import batch_parser, parse, text_of, time_of
from pipelines.batch.running import BatchJob, batch_job
from pipelines.batch.working import whole
from pipelines.config import PipelineConfig, load_config, load_schemas
from pipelines.session import close_session, open_session
from pipelines.sinks import Write, check_sinks, close_sinks, one_dead_letter, one_gap
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema, Schemas
from storage import open_journal
from storage.events.files import open_files
from storage.events.layout import hours
from storage.events.manifest import Covered
from transforms.admit import ADMITTED, DEAD, GAPS
from transforms.latest import Latest
from transforms.rules import EventRules, Rule, WindowRules, load_rules
from transforms.rules.fired import Fired
from transforms.windowing import AggregateInWindows
from transforms.windows import WindowSpec

_FIRED: Final = "fired"
#: Where each kind of result rows goes.
_TABLES: Final = MappingProxyType({"rows": "aggregates", "sessions": "sessions"})


@dataclass(frozen=True)
class Reprocess:
    """All that the job's graph is made from."""

    inputs: InputSettings
    #: Paths of hours, or ranges of the journal.
    elements: tuple[str, ...] | tuple[Covered, ...]
    windows: tuple[WindowSpec, ...]
    rules: tuple[Rule, ...]
    sinks: tuple[str, ...]
    shards: int

    def build(self, pipeline: beam.Pipeline) -> None:
        """Put the graph into ``pipeline``."""
        spread = pipeline | "Input" >> beam.Create(list(self.elements)) | "Spread" >> beam.Reshuffle()
        if self.elements and isinstance(self.elements[0], Covered):
            found = spread | "Journal" >> beam.ParDo(JournalPartitions(self.inputs)).with_outputs(ADMITTED, DEAD, GAPS)
            admitted = found[ADMITTED]
            _ = found[DEAD] | "DeadLetterRows" >> beam.Map(one_dead_letter) | "DeadLetters" >> self._write("dead_letters")
            _ = found[GAPS] | "GapRows" >> beam.Map(one_gap) | "Gaps" >> self._write("gaps")
        else:
            admitted = spread | "Events" >> beam.ParDo(EventHours(self.inputs))
        _ = admitted | "Latest" >> Latest() | "LatestValues" >> self._write("latest")
        fired = []
        if any(rule.window is None for rule in self.rules):
            fired.append(admitted | "EventRules" >> EventRules(self.rules, shards=self.shards))
        if self.windows:
            aggregated = admitted | "Aggregate" >> AggregateInWindows(self.windows, shards=self.shards, bounded=True)
            aggregates = {
                table: aggregated[kind] | f"Whole_{kind}" >> beam.ParDo(_Whole(self.inputs.choice, self.windows))
                for kind, table in _TABLES.items()
                if kind in aggregated
            }
            for table, rows in aggregates.items():
                _ = rows | f"Write_{table}" >> self._write(table)
            if any(rule.window is not None for rule in self.rules):
                both = tuple(aggregates.values()) | "WindowRows" >> beam.Flatten()
                fired.append(both | "WindowRules" >> WindowRules(self.rules, shards=self.shards))
        for number, collection in enumerate(fired):
            _ = collection | f"Fired{number}" >> beam.ParDo(_LeaveFired(self.inputs))

    def _write(self, table: str) -> Write:
        return Write(self.inputs.job, table, self.sinks)


class _Whole(beam.DoFn):
    def __init__(self, chosen: Choice, windows: tuple[WindowSpec, ...]) -> None:
        self._choice = chosen
        self._windows = windows

    def process(self, rows: pl.DataFrame) -> Any:
        kept = self._choice.windows(rows, self._windows)
        if len(kept):
            yield kept


class _LeaveFired(beam.DoFn):
    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings

    def process(self, fired: Fired) -> Any:
        notes.leave(open_files(self._settings.work), self._settings.folder, _FIRED, fired)
        return ()


def main(arguments: Sequence[str]) -> int:
    """See `pipelines.run.main`."""
    parser = batch_parser("reprocess", "Compute windows and rules again from what is stored, and replace the rows of sinks.")
    parser.add_argument("--from", dest="origin", choices=("events", "journal"), default="events", help="events unless given")
    parser.add_argument("--between", nargs=2, metavar=("FROM", "TO"), help="event times; windows that lie within are replaced")
    parser.add_argument("--select", default="", metavar="KEY=PATTERN,…", help="of topic, gateway, device, channel")
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="TOML: windows, rules, sinks, schemas")
    parser.add_argument("--sink", action="append", default=[], metavar="URL", help="where rows go, such as sqlite:results.sqlite")
    parser.add_argument("--fired", type=Path, metavar="FILE", help="what rules would have done, a JSON object a line")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read and where it would go, and read nothing")
    options = parse(parser, arguments)
    config = load_config(options.pipeline)
    schemas = load_schemas(config, options.pipeline)
    between = [time_of(text) for text in options.between or ()]
    chosen = choice(options.select, *between)
    sinks = (*options.sink, *config.sinks)
    if not sinks and not options.dry_run and not options.fired:
        raise ConfigurationError("nowhere to write to", remedy="give --sink URL, or sinks in the pipeline's file")
    name = f"reprocess-{uuid.uuid4()}"
    work = tempfile.mkdtemp(prefix="iotcloud-reprocess-")
    open_session(name, credit=1 << 40)
    try:
        inputs = InputSettings(
            name,
            options.archive,
            f"files:{work}",
            open_files(f"files:{work}").stage(),
            chosen,
            schemas,
            round(config.source.future * 1e6),
        )
        plan = _plan(options.origin, inputs, config, sinks, origin=str(options.pipeline))
        if options.dry_run:
            return _show(plan)
        with batch_job(name, options) as job:
            _report(plan, job, options.fired)
    finally:
        close_sinks(sinks)
        close_session(name)
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _plan(kind: str, inputs: InputSettings, config: PipelineConfig, sinks: tuple[str, ...], *, origin: str) -> Reprocess:
    windows = config.window_specs()
    rules = load_rules(config.rules, origin=origin, windows=windows, schemas=inputs.schemas)
    elements: tuple[str, ...] | tuple[Covered, ...]
    if kind == "journal":
        elements = _partitions(inputs.url, inputs.schemas, inputs.choice)
    else:
        listed = hours(open_files(inputs.url), start=inputs.choice.start, end=inputs.choice.end)
        elements = tuple(hour.path for hour in listed)
    return Reprocess(inputs, elements, windows, rules, sinks, config.shards)


def _partitions(url: str, schemas: Sequence[EventSchema], chosen: Choice) -> tuple[Covered, ...]:
    journal = open_journal(url, Schemas(schemas))
    try:
        return tuple(kept for kept in whole(journal) if chosen.topic(kept.topic))
    finally:
        journal.close()


def _show(plan: Reprocess) -> int:
    lines = [f"read       {element}" for element in plan.elements]
    lines += [f"window     {window.name}: {window.size / 1e6:g} s" for window in plan.windows]
    lines += [f"rule       {rule.name}, as a dry run" for rule in plan.rules]
    checked = check_sinks(plan.sinks)
    lines += [f"sink       {url}: {problem or 'can be written'}" for url, problem in checked]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if any(problem for _, problem in checked) else 0


def _report(plan: Reprocess, job: BatchJob, path: Path | None) -> None:
    total = sum(element.next - element.first if isinstance(element, Covered) else 1 for element in plan.elements)
    if plan.elements:
        job.run("reprocessing", total, plan.build)
    work = open_files(plan.inputs.work)
    counted = Counted()
    for note in notes.found(work, plan.inputs.folder, COUNTED, Counted):
        counted = counted.plus(note)
    fired = sorted(notes.found(work, plan.inputs.folder, _FIRED, Fired), key=lambda found: (found.time, found.id))
    if path is not None:
        path.write_bytes(b"".join(msgspec.json.encode(found) + b"\n" for found in fired))
    lines = [f"events     {counted.events} read, {counted.duplicates} duplicates, {counted.future} from the future"]
    lines += [f"not events {counted.dead}"] if counted.dead else []
    between = [text_of(time) for time in (plan.inputs.choice.start, plan.inputs.choice.end) if time is not None]
    lines.append(f"windows    {' to '.join(between) or 'all'}, written to {', '.join(plan.sinks) or 'nowhere'}")
    for (rule, change), number in sorted(Counter((found.rule, found.change) for found in fired).items()):
        lines.append(f"rule       {rule}: {change} {number} times, nothing was sent")
    sys.stdout.write("\n".join(lines) + "\n")
