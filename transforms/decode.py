"""Frames to columns: one data frame per event schema in a block, and what could not be decoded with its reason."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.control import Control, control_fingerprints, decode_control
from schemas.errors import FrameError
from schemas.fingerprint import MAGIC, PREFIX_BYTES
from schemas.frame import decode_frame
from schemas.registry import EventSchema, Schemas
from transforms import bulk
from transforms.columns import column_types, rows_of_frame

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one schema, those of a frame together."""

    schema: EventSchema
    #: Header fields (times in µs since 1970, UTC, as integers), then the measurements.
    columns: pl.DataFrame
    #: For each frame, its place in the block, and how many rows it has.
    places: Ints
    counts: Ints


@dataclass(slots=True)
class Decoded:
    """What a list of frames turned out to be. Places are positions in that list."""

    events: list[Events] = field(default_factory=list)
    control: list[tuple[int, Control]] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)


class Decoder:
    """Decodes frames of ``schemas``. ``native`` False leaves all to the reference."""

    def __init__(self, schemas: Schemas, *, native: bool = True) -> None:
        self._schemas = schemas
        self._control = control_fingerprints()
        native = native and bulk.is_available()
        self._plans = {schema.fingerprint: bulk.plan_for(schema) if native else None for schema in schemas}

    def decode(self, frames: Sequence[bytes]) -> Decoded:
        """Decode every frame whole or not at all, exactly as `schemas.frame.decode_frame` would."""
        out = Decoded()
        if not frames:
            return out
        lengths = np.fromiter(map(len, frames), np.int64, len(frames))
        ends = np.cumsum(lengths)
        starts = ends - lengths
        data = np.frombuffer(b"".join(frames), np.uint8)
        for prefix, places in _by_prefix(data, starts, lengths):
            schema = self._schemas.get(prefix[len(MAGIC) :]) if prefix[: len(MAGIC)] == MAGIC else None
            if schema is not None:
                self._events(schema, frames, places, data, starts, ends, out)
            elif prefix[len(MAGIC) :] in self._control and prefix[: len(MAGIC)] == MAGIC:
                _control(frames, places, out)
            else:
                self._by_reference(frames, places.tolist(), out)
        out.dead.sort()
        out.control.sort(key=lambda found: found[0])
        return out

    def _events(
        self,
        schema: EventSchema,
        frames: Sequence[bytes],
        places: Ints,
        data: npt.NDArray[np.uint8],
        starts: Ints,
        ends: Ints,
        out: Decoded,
    ) -> None:
        plan = self._plans.get(schema.fingerprint)
        if plan is None:
            self._by_reference(frames, places.tolist(), out, schema)
            return
        counts = bulk.declared_counts(data, starts[places], ends[places])
        plain = np.flatnonzero(counts)
        odd = places[counts == 0].tolist()
        if len(plain):
            mine = places[plain]
            chosen = frames if len(mine) == len(frames) else [frames[place] for place in mine.tolist()]
            taken, members, left = bulk.decode(plan, chosen, counts[plain], (ends - starts)[mine])
            odd += mine[left].tolist()
            if taken:
                columns = _frame([rows.columns for rows in taken], schema)
                order = mine[np.concatenate(members)]
                out.events.append(Events(schema, columns, order, np.concatenate([rows.counts for rows in taken])))
        if odd:
            self._by_reference(frames, sorted(odd), out, schema)

    def _by_reference(
        self, frames: Sequence[bytes], places: Iterable[int], out: Decoded, schema: EventSchema | None = None
    ) -> None:
        rows: list[dict[str, object]] = []
        good: list[int] = []
        counts: list[int] = []
        for place in places:
            try:
                decode_frame(frames[place], self._schemas)
            except FrameError as error:
                out.dead.append((place, str(error)))
                continue
            assert schema is not None, "a frame of an unknown fingerprint was decoded"
            found = rows_of_frame(schema, io.BytesIO(frames[place][PREFIX_BYTES:]))
            rows += found
            good.append(place)
            counts.append(len(found))
        if good and schema is not None:
            columns = pl.DataFrame(rows, schema=column_types(schema), orient="row")
            out.events.append(Events(schema, columns, np.array(good, np.int64), np.array(counts, np.int64)))


def _by_prefix(data: npt.NDArray[np.uint8], starts: Ints, lengths: Ints) -> list[tuple[bytes, Ints]]:
    """Places of frames by their first ten bytes; those too short to be a frame under their own bytes."""
    long_enough = np.flatnonzero(lengths >= bulk.SHORTEST)
    groups = [(b"", np.array([place], np.int64)) for place in np.flatnonzero(lengths < bulk.SHORTEST).tolist()]
    if len(long_enough):
        heads = data[starts[long_enough, None] + np.arange(PREFIX_BYTES)]
        if (heads == heads[0]).all():
            return [*groups, (heads[0].tobytes(), long_enough)]
        names, inverse = np.unique(np.ascontiguousarray(heads).view(f"V{PREFIX_BYTES}").ravel(), return_inverse=True)
        groups += [(names[number].tobytes(), long_enough[inverse == number]) for number in range(len(names))]
    return groups


def _control(frames: Sequence[bytes], places: Ints, out: Decoded) -> None:
    for place in places.tolist():
        try:
            out.control.append((place, decode_control(frames[place])))
        except FrameError as error:
            out.dead.append((place, str(error)))


def _frame(batches: Sequence[object], schema: EventSchema) -> pl.DataFrame:
    import pyarrow as pa

    table = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(table, pl.DataFrame)
    types = column_types(schema)
    return table if dict(table.schema) == types else table.cast(types)  # type: ignore[arg-type]
