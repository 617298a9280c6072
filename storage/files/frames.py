"""Records of a log sorted by what they hold: frames by schema, with their items as they stand, and what is no frame.

A frame is taken only when all of it can be decoded, judged as the pipelines judge it; its items are copied, never encoded again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import fastavro
import numpy as np
import numpy.typing as npt

from schemas.control import control_fingerprints, decode_control
from schemas.errors import FrameError
from schemas.fingerprint import MAGIC, PREFIX_BYTES
from schemas.frame import decode_frame
from schemas.registry import Schemas, shipped_text
from schemas.varint import decode_long
from transforms import bulk

_PLACES_PER_CALL: Final = 4_096


@dataclass(slots=True)
class Kind:
    """Frames of one schema: places in the list of records, numbers of items, and the items."""

    name: str
    #: JSON of the record.
    schema: str
    fingerprint: bytes
    places: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    items: list[bytes] = field(default_factory=list)

    def take(self, place: int, count: int, items: bytes) -> None:
        self.places.append(place)
        self.counts.append(count)
        self.items.append(items)


@dataclass(slots=True)
class Sorted:
    kinds: list[Kind]
    #: Places of what could not be decoded, and why.
    dead: list[tuple[int, str]]


class FrameSorter:
    """Sorts frames of ``schemas``, which may grow meanwhile. ``native`` False leaves all to the reference."""

    def __init__(self, schemas: Schemas, *, native: bool = True) -> None:
        self._schemas = schemas
        self._control = control_fingerprints()
        self._native = native and bulk.is_available()
        self._plans: dict[bytes, bulk.Plan | None] = {}

    def sort(self, values: Sequence[bytes]) -> Sorted:
        groups: dict[bytes, list[int]] = {}
        for place, value in enumerate(values):
            groups.setdefault(value[:PREFIX_BYTES], []).append(place)
        found = Sorted([], [])
        for prefix, places in groups.items():
            fingerprint = prefix[len(MAGIC) :]
            schema = self._schemas.get(fingerprint) if prefix[: len(MAGIC)] == MAGIC else None
            if schema is not None:
                kind = Kind(_short(schema.name), schema.text, fingerprint)
                odd = self._bulk(kind, values, places)
            else:
                name = self._control.get(fingerprint, "") if prefix[: len(MAGIC)] == MAGIC else ""
                kind = Kind(name, shipped_text(name) if name else "", fingerprint)
                odd = places
            self._one_by_one(kind, values, odd, found.dead, control=schema is None and bool(kind.name))
            if kind.places:
                found.kinds.append(_in_order(kind))
        found.dead.sort()
        return found

    def _bulk(self, kind: Kind, values: Sequence[bytes], places: list[int]) -> list[int]:
        """Take what the native decoder finds sound; returns the rest."""
        if kind.fingerprint not in self._plans:
            self._plans[kind.fingerprint] = bulk.plan_for(self._schemas[kind.fingerprint]) if self._native else None
        plan = self._plans[kind.fingerprint]
        if plan is None:
            return places
        odd: list[int] = []
        for start in range(0, len(places), _PLACES_PER_CALL):
            odd += _take_sound(plan, kind, values, places[start : start + _PLACES_PER_CALL])
        return odd

    def _one_by_one(
        self, kind: Kind, values: Sequence[bytes], places: Sequence[int], dead: list[tuple[int, str]], *, control: bool
    ) -> None:
        for place in places:
            value = values[place]
            try:
                if control:
                    decode_control(value)
                else:
                    decode_frame(value, self._schemas)
                kind.take(place, *_items(value, kind.schema))
            except FrameError as error:
                dead.append((place, error.message))


def _take_sound(plan: bulk.Plan, kind: Kind, values: Sequence[bytes], places: list[int]) -> list[int]:
    long_enough = [place for place in places if len(values[place]) >= bulk.SHORTEST]
    odd = [place for place in places if len(values[place]) < bulk.SHORTEST] if len(long_enough) < len(places) else []
    chosen = [values[place] for place in long_enough]
    lengths = np.fromiter(map(len, chosen), np.int64, len(chosen))
    ends = np.cumsum(lengths)
    data = np.frombuffer(b"".join(chosen), np.uint8)
    counts = bulk.declared_counts(data, ends - lengths, ends) if chosen else np.zeros(0, np.int64)
    plain = np.flatnonzero(counts)
    odd += [long_enough[number] for number in np.flatnonzero(counts == 0).tolist()]
    if not len(plain):
        return odd
    if len(plain) < len(chosen):
        chosen = [chosen[number] for number in plain.tolist()]
    _, members, left = bulk.decode(plan, chosen, counts[plain], lengths[plain])
    odd += [long_enough[plain[number]] for number in left]
    # One array block: prefix, count, the items, and the array's end.
    heads = np.full(len(counts), PREFIX_BYTES) + bulk.varint_bytes(counts * 2)
    for number in plain[np.concatenate(members)].tolist() if members else []:
        place = long_enough[number]
        kind.take(place, int(counts[number]), values[place][heads[number] : -1])
    return odd


def _in_order(kind: Kind) -> Kind:
    if all(a < b for a, b in zip(kind.places, kind.places[1:], strict=False)):
        return kind
    order = np.argsort(np.array(kind.places), kind="stable").tolist()
    for column in (kind.places, kind.counts, kind.items):
        column[:] = [column[number] for number in order]
    return kind


def _items(frame: bytes, schema: str) -> tuple[int, bytes]:
    """Number of items and their bytes of a frame that can be decoded, in whatever blocks its array comes."""
    parts: list[bytes] = []
    total = 0
    count, position = decode_long(frame, PREFIX_BYTES)
    while count:
        if count < 0:
            size, start = decode_long(frame, position)
            end = start + size
        else:
            stream = io.BytesIO(frame)
            start = stream.seek(position)
            for _ in range(count):
                fastavro.schemaless_reader(stream, _parsed(schema), None)
            end = stream.tell()
        parts.append(frame[start:end])
        total += abs(count)
        count, position = decode_long(frame, end)
    return total, b"".join(parts)


@lru_cache(maxsize=256)
def _parsed(schema: str) -> Any:
    return fastavro.parse_schema(json.loads(schema))


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def as_ints(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.fromiter(values, np.int64, len(values))
