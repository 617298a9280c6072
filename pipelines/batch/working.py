"""Pieces of work: what is new in a journal, and how much of it one function gets at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from schemas.registry import EventSchema
from storage.contract import Journal
from storage.events.manifest import Covered, Progress, by_partition

#: Offsets of a piece, about: an append of an archive is no longer than this.
_PIECE_OFFSETS: Final = 100_000


def ranges_of(journal: Journal, found: Covered) -> list[Covered]:
    """``found`` in pieces that begin and end where appends do, as far as it does."""
    pieces: list[Covered] = []
    first = found.first
    for extent in journal.extents(found.topic, found.partition, start=found.first):
        end = min(extent.next, found.next)
        if extent.first >= found.next:
            break
        if end - first >= _PIECE_OFFSETS:
            pieces.append(Covered(found.topic, found.partition, first, end))
            first = end
    if first < found.next:
        pieces.append(Covered(found.topic, found.partition, first, found.next))
    return pieces


def new_ranges(journal: Journal, schemas: Sequence[EventSchema], begun: Progress) -> list[Covered]:
    """What the journal has that was not worked off, or not understood then."""
    known = {schema.fingerprint.hex() for schema in schemas}
    positions = dict(by_partition(begun.journal))
    for fingerprint, places in begun.unknown.items():
        for place in places if fingerprint in known else ():
            key = (place.topic, place.partition)
            positions[key] = min(positions.get(key, place.first), place.first)
    found = []
    for kept in whole(journal):
        start = max(kept.first, positions.get((kept.topic, kept.partition), kept.first))
        if start < kept.next:
            found.append(replace(kept, first=start))
    return found


def whole(journal: Journal) -> list[Covered]:
    """All that a journal holds now, by partition."""
    found = []
    for topic, partition in journal.partitions():
        end = journal.next_offset(topic, partition)
        first = next((extent.first for extent in journal.extents(topic, partition)), None)
        if first is not None and end is not None:
            found.append(Covered(topic, partition, first, end))
    return found
