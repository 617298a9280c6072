"""Schemas of events as they are stored: the event's own, with the topic it came from as one more field at the end."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

import polars as pl

from schemas.header import HEADER_NAMES
from schemas.registry import EventSchema
from transforms.columns import column_types

#: Columns of rows within `storage.events`: the topic, and the event as it is stored. No field can have such a name.
TOPIC: Final = "iotcloud.topic"
RAW: Final = "iotcloud.raw"
#: What an event is told by, and the order it is stored in.
IDENTITY: Final = (TOPIC, "gateway", "epoch", "seq")
ORDER: Final = ("device", "channel", "event_time", *IDENTITY)


def short_name(schema: EventSchema) -> str:
    """A schema's name as directories have it."""
    return schema.name.rsplit(".", 1)[-1]


@lru_cache(maxsize=256)
def stored(schema: EventSchema) -> EventSchema:
    """``schema`` with the topic. It keeps the fingerprint of the frames its events came in."""
    name = "topic"
    while name in HEADER_NAMES or name in schema.measurements:
        name += "_"
    topic = {"name": name, "type": "string", "doc": "the topic the event came from"}
    record = {**schema.record, "fields": [*schema.record["fields"], topic]}
    return EventSchema(json.dumps(record, ensure_ascii=False), schema.name, schema.fingerprint)


def topic_field(schema: EventSchema) -> str:
    """The name of the topic in a schema that `stored` has made."""
    return schema.measurements[-1]


def row_types(schema: EventSchema) -> dict[str, pl.DataType]:
    """Types of the columns of events of a stored schema, with the topic under the name `TOPIC`."""
    return {TOPIC if name == topic_field(schema) else name: dtype for name, dtype in column_types(schema).items()}
