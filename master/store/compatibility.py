"""Which schemas a topic may hold: those that one of them, its reader, can read."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from master.errors import Refused
from master.store import tables as t
from master.store.database import insert, upsert
from schemas.registry import EventSchema, event_schema


def admit(connection: Connection, topic: str, schema: EventSchema, *, time: int) -> bool:
    """Note that ``schema`` is written to ``topic``; whether that is new.

    A topic is read long after it was written, so its reader must read every schema it has ever held. A schema that the
    reader can read, and reads whole, joins; one that can read all the others becomes the reader; one that the reader can
    read, though not whole, joins too; raises `Refused` for any other.
    """
    name = schema.fingerprint.hex()
    table = t.topic_schemas
    rows = connection.execute(
        select(table.c.fingerprint, table.c.reader, t.schemas.c.record)
        .join(t.schemas, t.schemas.c.fingerprint == table.c.fingerprint)
        .where(table.c.topic == topic)
    ).all()
    if any(row.fingerprint == name for row in rows):
        return False
    held = [(event_schema(row.record), bool(row.reader)) for row in rows]
    statement = insert(connection, t.schemas).on_conflict_do_nothing()
    connection.execute(statement, {"fingerprint": name, "name": schema.name, "record": schema.text, "first_time": time})
    reader = next((old for old, is_reader in held if is_reader), None)
    refusals = [reason for old, _ in held if (reason := _incompatibility(old, schema))]
    joins = reader is not None and _incompatibility(schema, reader) is None
    becomes_reader = not refusals and not (joins and reader is not None and set(schema.measurements) <= set(reader.measurements))
    if refusals and not joins:
        raise Refused(
            f"topic {topic}: schema {schema.name} ({name}) cannot read what the topic holds: {refusals[0]}",
            remedy="give new fields a default and keep the types of old ones, or name the channel anew",
        )
    if becomes_reader:
        connection.execute(update(table).where(table.c.topic == topic).values(reader=False))
    upsert(connection, table, {"topic": topic, "fingerprint": name, "reader": becomes_reader, "first_time": time})
    return True


def _incompatibility(writer: EventSchema, reader: EventSchema) -> str | None:
    from schemas.resolution import incompatibility

    return incompatibility(writer, reader)
