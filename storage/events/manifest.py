"""What an hour's ``_manifest.json`` says, and the archive's ``_progress.json``. Times are µs since 1970, UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from storage.errors import StoreRefused

Format = Literal["avro", "parquet"]
VERSION: Final = 1


class Identity(NamedTuple):
    """Whose sequence numbers an interval is of."""

    topic: str
    gateway: str
    epoch: int


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of an hour."""

    name: str
    #: Of its schema, hexadecimal.
    fingerprint: str
    rows: int
    bytes: int
    sha256: str
    min_event_time: int
    max_event_time: int
    first_device: str
    last_device: str


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sequence numbers of one `Identity` that an hour holds, as half-open intervals."""

    topic: str
    gateway: str
    epoch: int
    intervals: list[tuple[int, int]]

    @property
    def identity(self) -> Identity:
        return Identity(self.topic, self.gateway, self.epoch)


class Covered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Offsets of a partition of the journal, ``first`` to ``next`` (exclusive)."""

    topic: str
    partition: int
    first: int
    next: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An hour: every event the journal has of it up to the offsets it ``covers``, once."""

    version: int
    hour: str
    format: Format
    rows: int
    min_event_time: int
    max_event_time: int
    parts: list[Part]
    #: JSON of each schema as the parts hold it, by fingerprint.
    schemas: dict[str, str]
    identities: list[Seen]
    journal: list[Covered]


class Dropped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events ``first`` to ``last``, inclusive, that a gateway gave up."""

    topic: str
    gateway: str
    epoch: int
    first: int
    last: int
    reason: str


class Started(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gateway's epoch began in a topic; the one before ended with ``previous_last``."""

    topic: str
    gateway: str
    epoch: int
    previous_epoch: int | None
    previous_last: int | None


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the journal has been worked off, and what of it is no event."""

    version: int = VERSION
    format: Format = "avro"
    journal: list[Covered] = []
    dropped: list[Dropped] = []
    started: list[Started] = []
    #: First offsets of frames whose schema was not known, by fingerprint: they are read again once it is.
    unknown: dict[str, list[Covered]] = {}
    #: Hours before this time were taken away by age, and are not made again.
    kept_from: int | None = None
    #: What they held.
    removed: list[Seen] = []


Document = TypeVar("Document", Manifest, Progress)


def decode(data: bytes, kind: type[Document], *, origin: str) -> Document:
    """Raises `StoreRefused` for what is not such a document, or one of a later version of this program."""
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreRefused(f"{origin} is damaged: {error}", remedy="restore it; or remove its hour and compact again") from error
    if found.version > VERSION:
        raise StoreRefused(f"{origin} was written by a later version of this program", remedy="use that version")
    return found


def encode(document: Manifest | Progress) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def covered(ranges: Iterable[Covered]) -> list[Covered]:
    """The same offsets in as few ranges as can be, sorted."""
    joined: list[Covered] = []
    for found in sorted(ranges, key=lambda found: (found.topic, found.partition, found.first)):
        last = joined[-1] if joined else None
        if last and (last.topic, last.partition) == (found.topic, found.partition) and found.first <= last.next:
            joined[-1] = Covered(last.topic, last.partition, last.first, max(last.next, found.next))
        else:
            joined.append(found)
    return joined


def by_partition(ranges: Iterable[Covered]) -> Mapping[tuple[str, int], int]:
    """Where each partition goes on."""
    return {(found.topic, found.partition): found.next for found in ranges}
