"""``verify``: reads an archive's events, and says what is damaged, there twice, or missing. See storage/events/README.md."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.batch import notes
from pipelines.batch.account import MISSING, Account, Range
from pipelines.batch.checking import HOURS, JOURNAL, CheckHours, CheckSettings, HourFound, JournalFound, ReadJournal
from pipelines.batch.options import batch_parser, parse, schemas_of, time_of
from pipelines.batch.running import BatchJob, batch_job
from pipelines.batch.working import ranges_of
from schemas.registry import EventSchema, Schemas
from storage import open_journal
from storage.errors import StoreRefused
from storage.events.files import Files, open_files
from storage.events.hours import read_progress
from storage.events.layout import Hour, hours
from storage.events.manifest import Covered, Progress


@dataclass
class Findings:
    """What an archive holds, and what is wrong with it."""

    hours: int = 0
    rows: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    duplicates: list[Range] = field(default_factory=list)
    #: With no reason known, and with one.
    missing: list[Range] = field(default_factory=list)
    explained: list[Range] = field(default_factory=list)
    #: In the journal and not in the archive, and the other way round.
    lost: list[Range] = field(default_factory=list)
    foreign: list[Range] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.damaged or self.duplicates or self.missing or self.lost or self.foreign)

    def accept_missing(self) -> None:
        """What is missing without a reason is no fault any more."""
        self.explained, self.missing = [*self.explained, *self.missing], []


def main(arguments: Sequence[str]) -> int:
    """See `pipelines.run.main`. Returns 1 when something is wrong or missing without a reason."""
    parser = batch_parser("verify", "Read an archive's events; list what is damaged, there twice, or missing.")
    parser.add_argument("--between", nargs=2, metavar=("FROM", "TO"), help="only these hours; what is missing is not told then")
    parser.add_argument("--against-journal", action="store_true", help="also compare with every event of the journal")
    parser.add_argument("--accept-missing", action="store_true", help="list what is missing, but do not fail for it")
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="a pipeline's TOML file, for the schemas it names")
    parser.add_argument("--schema", type=Path, action="append", default=[], metavar="FILE", help="an .avsc file; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parse(parser, arguments)
    files = open_files(options.archive)
    between = tuple(map(time_of, options.between)) if options.between else (None, None)
    work = tempfile.mkdtemp(prefix="iotcloud-verify-")
    try:
        with batch_job(f"verify-{uuid.uuid4()}", options) as job:
            settings = CheckSettings(
                job.name,
                options.archive,
                f"files:{work}",
                open_files(f"files:{work}").stage(),
                schemas_of(options.pipeline, options.schema) if options.against_journal else (),
            )
            found = verify(job, files, settings, hours(files, start=between[0], end=between[1]), whole=not options.between)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if options.accept_missing:
        found.accept_missing()
    sys.stdout.write(json.dumps(_document(found), indent=1) + "\n" if options.json else _text(found))
    return 0 if found.sound else 1


def verify(job: BatchJob, files: Files, settings: CheckSettings, listed: Sequence[Hour], *, whole: bool) -> Findings:
    """Check hours; and with ``whole`` what is missing from the archive."""
    found = Findings()
    try:
        progress = read_progress(files)
    except StoreRefused as error:
        found.damaged.append(error.message)
        progress = Progress()
    ranges = _ranges(settings, progress.journal) if settings.schemas else []

    def build(pipeline: beam.Pipeline) -> None:
        paths = pipeline | "Hours" >> beam.Create([hour.path for hour in listed])
        _ = paths | "SpreadHours" >> beam.Reshuffle() | "Check" >> beam.ParDo(CheckHours(settings))
        if ranges:
            pieces = pipeline | "Ranges" >> beam.Create(ranges)
            _ = pieces | "SpreadRanges" >> beam.Reshuffle() | "Journal" >> beam.ParDo(ReadJournal(settings))

    job.run("checking", len(listed) + len(ranges), build)
    work = open_files(settings.work)
    account = Account()
    for hour in sorted(notes.found(work, settings.folder, HOURS, HourFound), key=lambda hour: hour.hour):
        found.hours += 1
        found.rows += hour.rows
        found.bytes += hour.bytes
        found.damaged += hour.problems
        account.add(hour.identities, where=hour.hour)
    found.duplicates = account.duplicates
    if whole:
        account.add(progress.removed, where="what retention took away", twice=False)
        missing = list(account.missing(progress.started, progress.dropped))
        found.missing = [hole for hole in missing if hole.why == MISSING]
        found.explained = [hole for hole in missing if hole.why != MISSING]
    if settings.schemas:
        sent = Account()
        for note in notes.found(work, settings.folder, JOURNAL, JournalFound):
            sent.add(note.identities, where="", twice=False)
        found.lost = [hole._replace(why="in the journal, not in the archive") for hole in sent.without(account)]
        found.foreign = [hole._replace(why="not in the journal") for hole in account.without(sent)]
    return found


def _ranges(settings: CheckSettings, worked_off: Sequence[Covered]) -> list[Covered]:
    schemas: tuple[EventSchema, ...] = settings.schemas
    journal = open_journal(settings.url, Schemas(schemas))
    try:
        return [piece for found in worked_off for piece in ranges_of(journal, found)]
    finally:
        journal.close()


_LISTS = ("damaged", "duplicates", "missing", "explained", "lost", "foreign")


def _document(found: Findings) -> dict[str, Any]:
    lists = {name: [_plain(item) for item in getattr(found, name)] for name in _LISTS}
    return {"sound": found.sound, "hours": found.hours, "events": found.rows, "bytes": found.bytes, **lists}


def _plain(item: str | Range) -> str | dict[str, Any]:
    if isinstance(item, str):
        return item
    return {**item.identity._asdict(), "first": item.first, "last": item.last, "why": item.why}


def _text(found: Findings) -> str:
    lines = [f"{name:10}  {item}" for name in _LISTS for item in getattr(found, name)]
    lines.append(f"{found.hours} hours, {found.rows} events, {found.bytes} bytes: " + ("sound" if found.sound else "not sound"))
    return "\n".join(lines) + "\n"
