"""``compact``: the journal's records to events by event time, each once. See storage/events/README.md.

The driver cuts what is new in the journal into ranges; functions sort ranges into runs of hours, then merge each hour that got
some. Hours are put in place one by one, progress is written last: killed at any moment, the job finds what it needs when it is
run again, and reads some of the journal once more.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import apache_beam as beam
import msgspec

from pipelines.batch import notes
from pipelines.batch.account import Account
from pipelines.batch.compacting import MERGED, SORTED, CompactSettings, HourNote, MergeHours, RangeNote, SortRanges
from pipelines.batch.options import batch_parser, parse, schemas_of, size_of
from pipelines.batch.running import BatchJob, batch_job
from pipelines.batch.working import new_ranges, ranges_of
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema, Schemas
from storage import open_journal
from storage.errors import StoreError
from storage.events.files import Files, open_files
from storage.events.hours import read_progress
from storage.events.layout import PROGRESS
from storage.events.manifest import Covered, Format, Progress, Seen, covered, encode
from storage.events.merging import TARGET_BYTES


def main(arguments: Sequence[str]) -> int:
    """See `pipelines.run.main`."""
    parser = batch_parser("compact", "Sort what is new in the journal into hours of events.")
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="a pipeline's TOML file, for the schemas it names")
    parser.add_argument("--schema", type=Path, action="append", default=[], metavar="FILE", help="an .avsc file; may be repeated")
    parser.add_argument("--format", choices=("avro", "parquet"), help="of a new archive; avro unless given")
    parser.add_argument("--target-size", default=str(TARGET_BYTES), metavar="SIZE", help="of a file; 128 MiB unless given")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read, and change nothing")
    options = parse(parser, arguments)
    target = size_of(options.target_size)
    schemas = schemas_of(options.pipeline, options.schema)
    files = open_files(options.archive)
    if options.dry_run:
        begun = read_progress(files)
        for found in _new(options.archive, schemas, begun):
            sys.stdout.write(f"{found.topic}/{found.partition}: offsets {found.first} to {found.next - 1}\n")
        return 0
    with (
        batch_job(f"compact-{uuid.uuid4()}", options) as job,
        files.alone() as key,
    ):
        files.recover()
        begun = read_progress(files)
        form = _form(begun, options.format, files)
        staged = files.stage()
        settings = CompactSettings(
            job.name, options.archive, key, staged, schemas, form, target, uuid.uuid4().hex[:8], begun.kept_from
        )
        try:
            compact(job, files, settings, begun)
        except BaseException:
            # Where this fails as well, the next run does it.
            with suppress(StoreError):
                files.recover()
            raise
        files.recover()
    return 0


def compact(job: BatchJob, files: Files, settings: CompactSettings, begun: Progress) -> None:
    """Work off what is new in the journal since ``begun``, and report on stdout. The caller is alone."""
    new = _new(settings.url, settings.schemas, begun)
    ranges = [piece for found in new for piece in _pieces(settings, found)]
    total = sum(found.next - found.first for found in ranges)

    def build(pipeline: beam.Pipeline) -> None:
        runs = (
            pipeline
            | "Ranges" >> beam.Create(ranges)
            | "Spread" >> beam.Reshuffle()
            | "Sort" >> beam.ParDo(SortRanges(settings)).with_output_types(tuple[str, bytes])
        )
        _ = runs | "Hours" >> beam.GroupByKey() | "Merge" >> beam.ParDo(MergeHours(settings))

    if ranges:
        job.run("records", total, build)
    sorted_ranges = list(notes.found(files, settings.staged, SORTED, RangeNote))
    merged = list(notes.found(files, settings.staged, MERGED, HourNote))
    files.replace(PROGRESS, encode(_after(begun, settings, new, sorted_ranges)))
    _report(sorted_ranges, merged, begun)


def _form(begun: Progress, asked: Format | None, files: Files) -> Format:
    form: Format = begun.format if begun.journal else asked or begun.format
    if asked is not None and asked != form:
        raise ConfigurationError(
            f"{files.url}: its events are kept as {form}", remedy=f"leave --format out; 'export' makes {asked} files"
        )
    return form


def _new(url: str, schemas: Sequence[EventSchema], begun: Progress) -> list[Covered]:
    journal = open_journal(url, Schemas(schemas))
    try:
        return new_ranges(journal, schemas, begun)
    finally:
        journal.close()


def _pieces(settings: CompactSettings, found: Covered) -> list[Covered]:
    journal = open_journal(settings.url, Schemas(settings.schemas))
    try:
        return ranges_of(journal, found)
    finally:
        journal.close()


def _after(begun: Progress, settings: CompactSettings, new: Sequence[Covered], found: Sequence[RangeNote]) -> Progress:
    known = {schema.fingerprint.hex() for schema in settings.schemas}
    unknown = {fingerprint: list(places) for fingerprint, places in begun.unknown.items() if fingerprint not in known}
    for note in sorted(found, key=lambda note: note.covered.first):
        for fingerprint, offset in note.unknown.items():
            places = unknown.setdefault(fingerprint, [])
            if not any((place.topic, place.partition) == (note.covered.topic, note.covered.partition) for place in places):
                places.append(Covered(note.covered.topic, note.covered.partition, offset, offset + 1))
    return Progress(
        format=settings.form,
        journal=covered([*begun.journal, *new]),
        dropped=sorted({*begun.dropped, *(drop for note in found for drop in note.dropped)}, key=msgspec.structs.astuple),
        started=sorted(
            {*begun.started, *(start for note in found for start in note.started)},
            key=lambda start: (start.topic, start.gateway, start.epoch, start.previous_epoch or 0, start.previous_last or 0),
        ),
        unknown=unknown,
        kept_from=begun.kept_from,
        removed=_removed(begun, found),
    )


def _removed(begun: Progress, found: Sequence[RangeNote]) -> list[Seen]:
    account = Account()
    for seen in (begun.removed, *(note.expired for note in found)):
        account.add(seen, where="", twice=False)
    return account.identities()


def _report(ranges: Sequence[RangeNote], hours: Sequence[HourNote], begun: Progress) -> None:
    changed = [hour for hour in hours if hour.new]
    duplicates = sum(note.duplicates for note in ranges) + sum(hour.duplicates for hour in hours)
    new, known = sum(hour.new for hour in hours), sum(hour.known for hour in hours)
    lines = [
        f"records     {sum(note.records for note in ranges)} from the journal" + ("" if begun.journal else ", the first time"),
        f"events      {sum(note.events for note in ranges)}: {new} new, {duplicates} duplicates, {known} there before",
        f"hours       {len(changed)} written, {len(hours) - len(changed)} unchanged",
    ]
    if dead := sum(note.dead for note in ranges):
        unknown = sorted({fingerprint for note in ranges for fingerprint in note.unknown})
        lines.append(f"not events  {dead}" + (f"; unknown schemas: {', '.join(unknown)}" if unknown else ""))
    if expired := sum(last - first for note in ranges for seen in note.expired for first, last in seen.intervals):
        lines.append(f"too old     {expired}, of hours that retention has taken away")
    sys.stdout.write("\n".join(lines) + "\n")
