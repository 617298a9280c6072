"""The file formats of events. A form makes rows of decoded events, and of its own files again.

Rows have the columns of `storage.events.schema.ORDER`; what else a form needs to write them is its own affair.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import polars as pl

from schemas.registry import EventSchema
from schemas.varint import encode_long, encode_string
from storage.events.container import damaged, read_blocks, write_events
from storage.events.schema import ORDER, RAW, TOPIC, row_types, topic_field
from transforms.columns import column_types, fields_of, rows_of_frame
from transforms.raw import Ints, event_bytes

_TIMES: Final = ("gateway_time", "event_time")


class Form(Protocol):
    """Schemas are stored ones (`storage.events.schema.stored`) everywhere."""

    def rows(self, schema: EventSchema, topic: str, events: pl.DataFrame, items: Sequence[bytes], counts: Ints) -> pl.DataFrame:
        """Rows of decoded events of one topic; ``items`` are what they were decoded from, each ``counts`` events."""

    def write(self, file: BinaryIO, schema: EventSchema, rows: pl.DataFrame, *, limit: int) -> int:
        """Write a file of as many rows as make about ``limit`` bytes, at least one; returns how many."""

    def read(self, file: BinaryIO, schema: EventSchema, *, origin: str) -> pl.DataFrame:
        """The rows of a file. Raises `StoreRefused` when it is damaged."""

    def columns(self, file: BinaryIO, schema: EventSchema, *, origin: str) -> pl.DataFrame:
        """The events of a file, `storage.events.schema.row_types`. Raises as `read`."""


class Avro:
    """Events keep the bytes they came in."""

    def __init__(self) -> None:
        self._codec: Final = "deflate"
        self._level: Final = 1

    def rows(self, schema: EventSchema, topic: str, events: pl.DataFrame, items: Sequence[bytes], counts: Ints) -> pl.DataFrame:
        """See `Form.rows`. ``schema`` is the stored one; the frames were of the one without topic."""
        raw = event_bytes(without_topic(schema), events, items, counts)
        known = [name for name in ORDER if name != TOPIC]
        rows = events.select(known).with_columns(pl.lit(topic).alias(TOPIC), raw.alias(RAW))
        return rows.select(*ORDER, pl.col(RAW) + pl.lit(encode_string(topic)))

    def write(self, file: BinaryIO, schema: EventSchema, rows: pl.DataFrame, *, limit: int) -> int:
        return write_events(file, schema.text, rows.get_column(RAW), codec=self._codec, level=self._level, limit=limit)

    def read(self, file: BinaryIO, schema: EventSchema, *, origin: str) -> pl.DataFrame:
        data = file.read()
        blocks = list(read_blocks(io.BytesIO(data), origin=origin))
        events = _avro_columns(data, blocks, schema, origin)
        counts = np.array([count for count, _ in blocks], np.int64)
        raw = event_bytes(schema, events, [items for _, items in blocks], counts)
        return events.rename({topic_field(schema): TOPIC}).select(*ORDER, raw.alias(RAW))

    def columns(self, file: BinaryIO, schema: EventSchema, *, origin: str) -> pl.DataFrame:
        data = file.read()
        events = _avro_columns(data, None, schema, origin)
        return events.rename({topic_field(schema): TOPIC})


class Parquet:
    """Events as columns; fields that have no column type are JSON text."""

    def rows(
        self,
        schema: EventSchema,  # noqa: ARG002
        topic: str,
        events: pl.DataFrame,
        items: Sequence[bytes],  # noqa: ARG002
        counts: Ints,  # noqa: ARG002
    ) -> pl.DataFrame:
        return events.with_columns(pl.lit(topic).alias(TOPIC))

    def write(self, file: BinaryIO, schema: EventSchema, rows: pl.DataFrame, *, limit: int) -> int:
        # Sorted columns compress to a third or less.
        count = max(1, min(len(rows), len(rows) * 3 * limit // max(1, int(rows.estimated_size()))))
        events = as_times(rows.head(count)).rename({TOPIC: topic_field(schema)}).select(*column_types(schema))
        events.write_parquet(file, compression="zstd", statistics=True)
        return count

    def read(self, file: BinaryIO, schema: EventSchema, *, origin: str) -> pl.DataFrame:
        return self.columns(file, schema, origin=origin)

    def columns(self, file: BinaryIO, schema: EventSchema, *, origin: str) -> pl.DataFrame:
        try:
            found = pl.read_parquet(io.BytesIO(file.read()))
            return (
                found.with_columns(pl.col(_TIMES).to_physical()).rename({topic_field(schema): TOPIC}).select(*row_types(schema))
            )
        except pl.exceptions.PolarsError as error:
            raise damaged(origin, error) from error


FORMS: Final[Mapping[str, Form]] = MappingProxyType({"avro": Avro(), "parquet": Parquet()})


def as_times(events: pl.DataFrame) -> pl.DataFrame:
    """Events with the header's times as what they are."""
    return events.with_columns(pl.col(_TIMES).cast(pl.Datetime("us", "UTC")))


@lru_cache(maxsize=256)
def without_topic(schema: EventSchema) -> EventSchema:
    """The inverse of `storage.events.schema.stored`."""
    record = {**schema.record, "fields": schema.record["fields"][:-1]}
    return EventSchema(json.dumps(record, ensure_ascii=False), schema.name, schema.fingerprint)


def _avro_columns(data: bytes, blocks: list[tuple[int, bytes]] | None, schema: EventSchema, origin: str) -> pl.DataFrame:
    """Raw values of all fields, under their own names."""
    if all(field.columnar for field in fields_of(schema)):
        try:
            found = pl.read_avro(io.BytesIO(data))
            return found.select(pl.all().to_physical()).select(*column_types(schema))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise damaged(origin, error) from error
    rows: list[dict[str, Any]] = []
    for count, items in blocks if blocks is not None else read_blocks(io.BytesIO(data), origin=origin):
        try:
            rows += rows_of_frame(schema, io.BytesIO(b"".join((encode_long(count), items, b"\0"))))
        except Exception as error:  # fastavro raises whatever its reader stumbles on
            raise damaged(origin, error) from error
    return pl.DataFrame(rows, schema=column_types(schema), orient="row")
