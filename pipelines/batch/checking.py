"""The functions of ``verify``: what is wrong with an hour, and which events a range of the journal holds."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
import msgspec
import polars as pl

from pipelines.batch import notes
from pipelines.batch.progress import progress_of
from schemas.registry import EventSchema, Schemas
from storage import open_journal
from storage.errors import StoreError
from storage.events.files import Files, open_files
from storage.events.forms import FORMS
from storage.events.hours import digest, read_manifest, schema_of
from storage.events.layout import MANIFEST, SUCCESS, Hour
from storage.events.manifest import Covered, Manifest, Part, Seen
from storage.events.merging import identities
from storage.events.schema import IDENTITY, ORDER
from storage.events.sorting import events_in

HOURS: Final = "hour"
JOURNAL: Final = "journal"


class HourFound(msgspec.Struct, frozen=True):
    """An hour as it is: events by identity, and what is wrong with it."""

    hour: str
    rows: int
    bytes: int
    identities: list[Seen]
    problems: list[str]


class JournalFound(msgspec.Struct, frozen=True):
    """Events of a range of the journal."""

    identities: list[Seen]


@dataclass(frozen=True)
class CheckSettings:
    """What the functions need; it goes through pickle with the pipeline."""

    job: str
    url: str
    #: Where notes are left: a directory of its own, and its place in it.
    work: str
    folder: str
    schemas: tuple[EventSchema, ...] = ()


class CheckHours(beam.DoFn):
    """Paths of hours in, nothing out."""

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings

    def process(self, element: str) -> Iterator[None]:
        settings = self._settings
        progress_of(settings.job).check()
        found = check_hour(open_files(settings.url), Hour.parse(element))
        notes.leave(open_files(settings.work), settings.folder, HOURS, found)
        progress_of(settings.job).advance()
        yield from ()


class ReadJournal(beam.DoFn):
    """`Covered` in, nothing out."""

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings

    def process(self, element: Covered) -> Iterator[None]:
        settings = self._settings
        journal = open_journal(settings.url, Schemas(settings.schemas))
        work = open_files(settings.work)
        try:
            records = journal.read(element.topic, element.partition, start=element.first, end=element.next)
            for events in events_in(element.topic, records, Schemas(settings.schemas)):
                progress_of(settings.job).check()
                notes.leave(work, settings.folder, JOURNAL, JournalFound(identities([events])), key=uuid.uuid4().hex)
        finally:
            journal.close()
        progress_of(settings.job).advance()
        yield from ()


def check_hour(files: Files, hour: Hour) -> HourFound:
    """Read all of an hour. What is wrong is said; only a store that cannot be reached raises `StoreUnavailable`."""
    problems: list[str] = []
    try:
        manifest = read_manifest(files, hour)
    except StoreError as error:
        return HourFound(str(hour), 0, 0, [], [error.message])
    if manifest is None:
        return HourFound(str(hour), 0, 0, [], [f"{hour}: there is no {MANIFEST}"])
    names = {part.name for part in manifest.parts}
    present = set(files.list(hour.path))
    if SUCCESS not in present:
        problems.append(f"{hour}: there is no {SUCCESS}")
    problems += [f"{hour}/{name}: the manifest does not name it" for name in sorted(present - names - {MANIFEST, SUCCESS})]
    tables: list[pl.DataFrame] = []
    for part in manifest.parts:
        problem = _check_part(files, hour, manifest, part, tables)
        problems += [f"{hour}/{part.name}: {problem}"] if problem else []
    found = identities(tables) if tables else []
    rows = sum(map(len, tables))
    if not problems:
        problems += [f"{hour}: {problem}" for problem in _check_manifest(hour, manifest, tables, found)]
    twice = rows - sum(following - first for seen in found for first, following in seen.intervals)
    if twice:
        problems.append(f"{hour}: {twice} events are there twice")
    return HourFound(str(hour), rows, sum(part.bytes for part in manifest.parts), found, problems)


def _check_part(files: Files, hour: Hour, manifest: Manifest, part: Part, tables: list[pl.DataFrame]) -> str:
    """What is wrong with a file; its identities go to ``tables``."""
    try:
        with files.open(f"{hour.path}/{part.name}") as file:
            data = file.read()
        schema = schema_of(manifest, part)
        rows = FORMS[manifest.format].read(io.BytesIO(data), schema, origin=part.name).select(ORDER)
    except FileNotFoundError:
        return "it is missing"
    except StoreError as error:
        return error.message
    tables.append(rows.select(IDENTITY))
    times = rows.get_column("event_time")
    checks = {
        f"has {len(data)} bytes, the manifest says {part.bytes}": len(data) == part.bytes,
        "its SHA-256 is not what the manifest says": digest(io.BytesIO(data)) == part.sha256,
        f"holds {len(rows)} events, the manifest says {part.rows}": len(rows) == part.rows,
        "its times are not what the manifest says": (times.min(), times.max()) == (part.min_event_time, part.max_event_time),
        "is not sorted": rows.equals(rows.sort(ORDER)),
    }
    return next((problem for problem, sound in checks.items() if not sound), "")


def _check_manifest(hour: Hour, manifest: Manifest, tables: list[pl.DataFrame], found: list[Seen]) -> Iterator[str]:
    if manifest.hour != str(hour):
        yield f"the manifest is that of {manifest.hour}"
    if manifest.rows != sum(map(len, tables)):
        yield f"holds {sum(map(len, tables))} events, the manifest says {manifest.rows}"
    if not (hour.start <= manifest.min_event_time <= manifest.max_event_time < hour.end):
        yield "holds events of other hours"
    if sorted(map(msgspec.structs.astuple, manifest.identities)) != sorted(map(msgspec.structs.astuple, found)):
        yield "the manifest's identities are not those of its events"
