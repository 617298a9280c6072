"""Records of the journal sorted into hours: one range of offsets at a time, in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

import polars as pl

from schemas.control import EpochStart, control_fingerprints
from schemas.fingerprint import MAGIC, PREFIX_BYTES
from schemas.registry import Schemas
from storage.contract import JournalRecord
from storage.events.files import Files
from storage.events.forms import FORMS
from storage.events.layout import HOUR, hour_of
from storage.events.manifest import Covered, Dropped, Format, Seen, Started
from storage.events.merging import Run, identities, write_run
from storage.events.schema import IDENTITY, TOPIC, short_name, stored
from transforms.decode import Decoded, Decoder
from transforms.raw import items_of

#: Bytes of frames that are decoded at once, and that are kept until they are written as runs.
_BLOCK_BYTES: Final = 2_000_000
_KEPT_BYTES: Final = 64_000_000


class Sorter:
    """Sorts the records of ranges. After each its counts say what was in it."""

    def __init__(self, files: Files, staged: str, schemas: Schemas, form: Format, *, kept_from: int | None = None) -> None:
        """``staged`` is where runs go; hours that begin before ``kept_from`` (µs since 1970, UTC) are passed over."""
        self._files = files
        self._staged = staged
        self._form = FORMS[form]
        self._decoder = Decoder(schemas)
        self._schemas = {schema.fingerprint.hex(): schema for schema in schemas}
        self._known = {schema.fingerprint for schema in schemas} | control_fingerprints().keys()
        self._kept_from = kept_from
        self.records = self.events = self.duplicates = self.dead = 0
        #: Events of hours that are not kept any more.
        self.expired: list[Seen] = []
        self.dropped: list[Dropped] = []
        self.started: list[Started] = []
        #: First offset of each fingerprint that is not known.
        self.unknown: dict[str, int] = {}

    def sort(self, found: Covered, records: Iterable[JournalRecord], *, name: str) -> Iterator[tuple[str, Run]]:
        """Paths of hours with runs of their rows, whose files begin with ``name``."""
        kept: dict[tuple[str, int], list[pl.DataFrame]] = {}
        numbers = count()
        held = 0
        for block in blocks_of(records):
            size = self._take(found, block, kept)
            held += size
            if held > _KEPT_BYTES:
                yield from self._flush(found, kept, name, numbers)
                held = 0
        yield from self._flush(found, kept, name, numbers)

    def _take(self, found: Covered, records: list[JournalRecord], kept: dict[tuple[str, int], list[pl.DataFrame]]) -> int:
        values = [record.value for record in records]
        decoded = self._decoder.decode(values)
        self.records += len(records)
        self._note(found, records, decoded)
        for part in decoded.events:
            schema = stored(part.schema)
            items = [items_of(values[place]) for place in part.places.tolist()]
            rows = self._form.rows(schema, found.topic, part.columns, items, part.counts)
            self.events += len(rows)
            for (number,), piece in rows.group_by(pl.col("event_time").floordiv(HOUR), maintain_order=True):
                start = int(str(number)) * HOUR
                if self._kept_from is not None and start < self._kept_from:
                    self.expired += identities([piece])
                    continue
                kept.setdefault((part.schema.fingerprint.hex(), start), []).append(piece)
        return sum(map(len, values))

    def _note(self, found: Covered, records: list[JournalRecord], decoded: Decoded) -> None:
        for _, record in decoded.control:
            if isinstance(record, EpochStart):
                self.started.append(
                    Started(found.topic, record.gateway, record.epoch, record.previous_epoch, record.previous_last)
                )
            else:
                self.dropped.append(Dropped(found.topic, record.gateway, record.epoch, record.first, record.last, record.reason))
        self.dead += len(decoded.dead)
        for place, _ in decoded.dead:
            prefix = records[place].value[:PREFIX_BYTES]
            fingerprint = prefix[len(MAGIC) :]
            if prefix[: len(MAGIC)] == MAGIC and fingerprint not in self._known:
                self.unknown.setdefault(fingerprint.hex(), records[place].offset)

    def _flush(
        self, found: Covered, kept: dict[tuple[str, int], list[pl.DataFrame]], name: str, numbers: Iterator[int]
    ) -> Iterator[tuple[str, Run]]:
        for (fingerprint, start), tables in kept.items():
            rows = pl.concat(tables).unique(IDENTITY, keep="first", maintain_order=True)
            self.duplicates += sum(map(len, tables)) - len(rows)
            path = f"{self._staged}/{name}-{next(numbers):05d}.arrow"
            write_run(self._files, path, rows)
            yield hour_of(short_name(self._schemas[fingerprint]), start).path, Run(path, fingerprint, len(rows), found)
        kept.clear()


def events_in(topic: str, records: Iterable[JournalRecord], schemas: Schemas) -> Iterator[pl.DataFrame]:
    """The columns `storage.events.schema.IDENTITY` of all events of some records, block by block."""
    decoder = Decoder(schemas)
    for block in blocks_of(records):
        for part in decoder.decode([record.value for record in block]).events:
            yield part.columns.select(pl.lit(topic).alias(TOPIC), *IDENTITY[1:])


def blocks_of(records: Iterable[JournalRecord]) -> Iterator[list[JournalRecord]]:
    """Records in lists of about so many bytes that are decoded at once."""
    block: list[JournalRecord] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record.value) + 16
        if size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
