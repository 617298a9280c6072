"""Where each event's own bytes lie within the items of a frame, so that events can be moved without being encoded again."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.errors import FrameError
from schemas.fingerprint import PREFIX_BYTES
from schemas.registry import EventSchema
from schemas.varint import decode_long
from transforms.columns import Field, fields_of, raw_type

Ints = npt.NDArray[np.int64]
_FIXED_SIZES: Final = {"float": 4, "double": 8, "boolean": 1}
#: Magnitudes from which a zigzag integer takes one byte more (Avro 1.12, "Primitive Types"): 7 bits a byte, one for the sign.
_STEPS: Final = tuple(1 << (6 + 7 * place) for place in range(9))


def items_of(frame: bytes) -> bytes:
    """The items of a frame that is one array block. Raises `FrameError` for other bytes."""
    count, start = decode_long(frame, PREFIX_BYTES)
    if count < 1 or frame[-1:] != b"\0":
        raise FrameError("is not one array block")
    return frame[start:-1]


def event_bytes(schema: EventSchema, columns: pl.DataFrame, items: Sequence[bytes], counts: Ints) -> pl.Series:
    """The bytes of each row of ``columns`` (decoded events), out of the ``items`` of which each holds ``counts`` rows.

    Raises `FrameError` for items that hold something else.
    """
    ends = np.cumsum(np.fromiter(map(len, items), np.int64, len(items)))
    lengths = event_lengths(schema, columns)
    if lengths is None:
        lengths = np.zeros(len(columns), np.int64)
    bounds = np.cumsum(counts)
    starts = bounds - counts
    needed = np.add.reduceat(lengths, starts) if len(starts) else lengths
    for place in np.flatnonzero(needed != np.diff(ends, prepend=0)).tolist():
        # A foreign encoding, with integers longer than needed: only reading tells.
        lengths[starts[place] : bounds[place]] = _stepped(schema, items[place], int(counts[place]))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    found = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(columns), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(items))]
    )
    return pl.Series("raw", found)


def event_lengths(schema: EventSchema, columns: pl.DataFrame) -> Ints | None:
    """Bytes that each row takes in Avro's shortest encoding; None for schemas with fields that are no columns."""
    fields = fields_of(schema)
    if not all(field.columnar for field in fields):
        return None
    sizes = columns.select(_size(field, columns.get_column(field.name)).alias(field.name) for field in fields)
    total = sizes.select(pl.sum_horizontal(pl.all()).cast(pl.Int64)).to_series()
    return total.to_numpy(writable=True)


def _size(field: Field, values: pl.Series) -> pl.Expr:
    column = pl.col(field.name)
    if field.kind in _FIXED_SIZES:
        size = pl.lit(_FIXED_SIZES[field.kind], pl.Int64)
    elif field.kind in ("int", "long"):
        size = _varint(column.cast(pl.Int64), values.cast(pl.Int64))
    else:
        length = (column.str.len_bytes() if field.kind == "string" else column.bin.size("b")).cast(pl.Int64)
        lengths = (values.str.len_bytes() if field.kind == "string" else values.bin.size("b")).cast(pl.Int64)
        size = length + _varint(length, lengths)
    if not field.nullable:
        return size
    # The branch of the union takes a byte, and null nothing more.
    return pl.when(column.is_null()).then(1).otherwise(size + 1)


def _varint(number: pl.Expr, values: pl.Series) -> pl.Expr:
    least, most = values.min(), values.max()
    assert least is None or isinstance(least, int), "integers are counted in bytes"
    assert most is None or isinstance(most, int), "integers are counted in bytes"
    magnitude = pl.when(number < 0).then(-(number + 1)).otherwise(number) if least is not None and least < 0 else number
    greatest = max(most or 0, -((least or 0) + 1))
    size: pl.Expr = pl.lit(1, pl.Int64)
    for step in _STEPS:
        if greatest >= step:
            size = size + (magnitude >= step).cast(pl.Int64)
    return size


def _stepped(schema: EventSchema, items: bytes, count: int) -> Ints:
    stream = io.BytesIO(items)
    places = [0]
    for _ in range(count):
        try:
            fastavro.schemaless_reader(stream, _raw_record(schema), None)
        except Exception as error:  # fastavro raises whatever its reader stumbles on
            raise FrameError(f"{schema.name}: {error!r}") from error
        places.append(stream.tell())
    if places[-1] != len(items):
        raise FrameError(f"{schema.name}: {len(items) - places[-1]} bytes after {count} events")
    ends = np.array(places, np.int64)
    return ends[1:] - ends[:-1]


@lru_cache(maxsize=256)
def _raw_record(schema: EventSchema) -> Any:
    return fastavro.parse_schema(raw_type(schema.record))
