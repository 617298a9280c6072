"""An hour out of what it was and what is new of it: each event once, in order, put in its place at once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple, cast

import polars as pl

from schemas.registry import EventSchema
from storage.errors import StoreRefused
from storage.events.files import Files
from storage.events.forms import FORMS
from storage.events.hours import read_manifest, schema_of
from storage.events.layout import MANIFEST, SUCCESS, Hour
from storage.events.manifest import VERSION, Covered, Format, Manifest, Part, Seen, covered, encode
from storage.events.schema import IDENTITY, ORDER

#: Bytes of a file that readers like to be given whole.
TARGET_BYTES: Final = 128 * 1024 * 1024


class Run(NamedTuple):
    """Rows of one hour out of one range of the journal: the file ``path`` (Arrow IPC). ``fingerprint`` in hexadecimal."""

    path: str
    fingerprint: str
    rows: int
    covered: Covered


class Merged(NamedTuple):
    """What became of an hour."""

    #: Events it holds, of which so many are new.
    rows: int
    new: int
    #: Rows of the runs that are there twice, and that the hour had before.
    duplicates: int
    known: int
    parts: int
    bytes: int


def merge_hour(
    files: Files,
    hour: Hour,
    runs: Sequence[Run],
    schemas: Mapping[str, EventSchema],
    *,
    form: Format,
    target_bytes: int = TARGET_BYTES,
    generation: str,
) -> Merged:
    """Put the rows of ``runs`` into an hour, whose place the new one takes. An hour to which nothing is new is left alone.

    ``schemas`` are stored ones by fingerprint; ``generation`` is part of the names of new files. To do it again changes nothing.
    """
    old = read_manifest(files, hour)
    if old is not None and old.format != form:
        raise StoreRefused(f"{files.url}: {hour} is kept as {old.format}", remedy=f"--format {old.format}, or another archive")
    tables: dict[str, list[pl.DataFrame]] = {}
    known = dict(schemas)
    for part in old.parts if old is not None else ():
        known[part.fingerprint] = schema = schema_of(old, part) if old is not None else known[part.fingerprint]
        with files.open(f"{hour.path}/{part.name}") as file:
            tables.setdefault(part.fingerprint, []).append(
                FORMS[form].read(file, schema, origin=f"{files.url}/{hour.path}/{part.name}")
            )
    before = sum(len(table) for found in tables.values() for table in found)
    added = {fingerprint: _distinct(found) for fingerprint, found in _read_runs(files, runs).items()}
    fresh = sum(map(len, added.values()))
    given = sum(run.rows for run in runs)
    for fingerprint, table in added.items():
        tables.setdefault(fingerprint, []).append(table)
    rows = {fingerprint: _distinct(found).sort(ORDER) for fingerprint, found in sorted(tables.items())}
    total = sum(map(len, rows.values()))
    merged = Merged(total, total - before, given - fresh, fresh - (total - before), 0, 0)
    if old is not None and total == before:
        return merged._replace(parts=len(old.parts), bytes=sum(part.bytes for part in old.parts))
    staged = files.stage()
    parts: list[Part] = []
    for fingerprint, table in rows.items():
        parts += _write(files, staged, known[fingerprint], table, form=form, target_bytes=target_bytes, generation=generation)
    manifest = Manifest(
        VERSION,
        str(hour),
        form,
        total,
        min(part.min_event_time for part in parts),
        max(part.max_event_time for part in parts),
        parts,
        {fingerprint: known[fingerprint].text for fingerprint in rows},
        identities(rows.values()),
        covered([*(old.journal if old is not None else ()), *(run.covered for run in runs)]),
    )
    with files.create(f"{staged}/{MANIFEST}") as file:
        file.write(encode(manifest))
    with files.create(f"{staged}/{SUCCESS}"):
        pass
    files.swap(staged, hour.path)
    return merged._replace(parts=len(parts), bytes=sum(part.bytes for part in parts))


def identities(tables: Iterable[pl.DataFrame]) -> list[Seen]:
    """Sequence numbers in ``tables`` as intervals, by identity."""
    columns = [table.select(IDENTITY) for table in tables]
    rows = pl.concat(columns).sort(IDENTITY)
    starts = (pl.struct(IDENTITY[:-1]) != pl.struct(IDENTITY[:-1]).shift()) | (pl.col("seq") != pl.col("seq").shift() + 1)
    found = (
        rows.with_columns(starts.fill_null(value=True).cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(*(pl.col(name).first() for name in IDENTITY), (pl.col("seq").last() + 1).alias("next"))
        .group_by(IDENTITY[:-1], maintain_order=True)
        .agg("seq", "next")
    )
    return [
        Seen(topic, gateway, epoch, list(zip(firsts, nexts, strict=True)))
        for topic, gateway, epoch, firsts, nexts in found.iter_rows()
    ]


def write_run(files: Files, path: str, rows: pl.DataFrame) -> None:
    """Put rows where `merge_hour` finds them."""
    with files.create(path, durable=False) as file:
        rows.write_ipc(file, compression="lz4")


def _read_runs(files: Files, runs: Sequence[Run]) -> dict[str, list[pl.DataFrame]]:
    tables: dict[str, list[pl.DataFrame]] = {}
    # In the order of the journal, so that of two that differ the first is kept, whatever the order of work.
    for run in sorted(runs, key=lambda run: (run.covered.topic, run.covered.partition, run.covered.first, run.path)):
        with files.open(run.path) as file:
            tables.setdefault(run.fingerprint, []).append(pl.read_ipc(io.BytesIO(file.read())))
    return tables


def _distinct(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One table; each of ``tables`` has an event once."""
    return tables[0] if len(tables) == 1 else pl.concat(tables).unique(IDENTITY, keep="first", maintain_order=True)


class _Digested:
    """A file to write to from its beginning to its end; says what was written, whatever became of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(
    files: Files, staged: str, schema: EventSchema, rows: pl.DataFrame, *, form: Format, target_bytes: int, generation: str
) -> list[Part]:
    parts: list[Part] = []
    fingerprint = schema.fingerprint.hex()
    while len(rows):
        name = f"part-{generation}-{fingerprint}-{len(parts):05d}.{form}"
        with files.create(f"{staged}/{name}") as file:
            written = _Digested(file)
            count = FORMS[form].write(cast("BinaryIO", written), schema, rows, limit=target_bytes)
        taken, rows = rows[:count], rows[count:]
        times = taken.get_column("event_time")
        parts.append(
            Part(
                name=name,
                fingerprint=fingerprint,
                rows=count,
                bytes=written.size,
                sha256=written.sha256.hexdigest(),
                min_event_time=int(times.min()),  # type: ignore[arg-type]
                max_event_time=int(times.max()),  # type: ignore[arg-type]
                first_device=taken.item(0, "device"),
                last_device=taken.item(count - 1, "device"),
            )
        )
    return parts
