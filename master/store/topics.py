"""Reading the registry: channels, topics with the addresses of their brokers, schemas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, and_, select, tuple_

from master.selection import Selection
from master.store import tables as t
from master.store.conditions import available, chosen_gateways, wanted
from master.store.pages import DEFAULT_LIMIT, page
from master.views import Channel, Page, Schema, Topic
from schemas.rpc import Direction, Grouping


def channels(connection: Connection, chosen: Selection, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Channel]:
    table = t.channels
    query = _select_channels(chosen)
    if chosen.topic:
        query = query.where(table.c.topic.in_(chosen.topic))
    if chosen.device:
        query = query.where(_seen_by(chosen.device))
    key = [table.c.gateway, table.c.application, table.c.channel]
    return page(connection, query, key, _channels, after=after, limit=limit)


def channel_rows(connection: Connection, owners: Collection[tuple[str, str]]) -> list[Channel]:
    """The channels of these (gateway, application)."""
    table = t.channels
    query = _select_channels(Selection()).where(tuple_(table.c.gateway, table.c.application).in_(list(owners)))
    return _channels(connection.execute(query.order_by(table.c.gateway, table.c.application, table.c.channel)).all())


def topics(connection: Connection, chosen: Selection) -> list[Topic]:
    """Every topic chosen, by broker and name; of a single channel one for each device seen."""
    query = _select_channels(chosen)
    if chosen.device:
        query = query.where(_seen_by(chosen.device))
    found: dict[tuple[str, str], _Topic] = {}
    single = _devices_of_single(connection, chosen)
    for channel in _channels(connection.execute(query.order_by(t.channels.c.topic)).all()):
        names = [channel.topic]
        if channel.grouping == "single":
            seen = single[channel.gateway, channel.application, channel.channel]
            names = [channel.topic.replace("{device}", device) for device in seen]
        for name in names:
            if chosen.topic and name not in chosen.topic:
                continue
            known = found.setdefault(
                (channel.broker, name), _Topic(channel.topic, channel.site, channel.grouping, channel.direction)
            )
            known.gateways.add(channel.gateway)
            known.channels.add(channel.channel)
            known.available |= channel.available
    schemas = _schemas_of_topics(connection, {topic.template for topic in found.values()})
    return [_topic(broker, name, topic, schemas[topic.template]) for (broker, name), topic in sorted(found.items())]


def schema(connection: Connection, fingerprint: str) -> Schema | None:
    row = connection.execute(select(t.schemas).where(t.schemas.c.fingerprint == fingerprint)).one_or_none()
    return _schema(row) if row else None


def schemas(connection: Connection, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Schema]:
    return page(
        connection, select(t.schemas), [t.schemas.c.fingerprint], lambda rows: list(map(_schema, rows)), after=after, limit=limit
    )


@dataclass
class _Topic:
    template: str
    site: str
    grouping: Grouping
    direction: Direction
    gateways: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    available: bool = False


def _select_channels(chosen: Selection) -> Select[Any]:
    table = t.channels
    return (
        select(table, t.gateways.c.site, t.transports.c.url, t.schemas.c.name.label("schema_name"), available())
        .join(t.gateways, t.gateways.c.gateway == table.c.gateway)
        .join(
            t.applications, and_(t.applications.c.gateway == table.c.gateway, t.applications.c.application == table.c.application)
        )
        .join(t.transports, and_(t.transports.c.gateway == table.c.gateway, t.transports.c.name == table.c.transport))
        .join(t.schemas, t.schemas.c.fingerprint == table.c.fingerprint)
        .where(
            *chosen_gateways(chosen), *wanted(table.c.application, chosen.application), *wanted(table.c.channel, chosen.channel)
        )
    )


def _seen_by(devices: Sequence[str]) -> Any:
    table, seen = t.channels, t.device_channels
    same = (seen.c.gateway == table.c.gateway, seen.c.application == table.c.application, seen.c.channel == table.c.channel)
    return select(seen.c.device).where(*same, seen.c.device.in_(devices)).exists()


def _devices_of_single(connection: Connection, chosen: Selection) -> dict[tuple[str, str, str], list[str]]:
    table, seen = t.channels, t.device_channels
    query = (
        select(seen)
        .join(
            table,
            and_(table.c.gateway == seen.c.gateway, table.c.application == seen.c.application, table.c.channel == seen.c.channel),
        )
        .where(table.c.grouping == "single", *wanted(seen.c.device, chosen.device), *wanted(seen.c.gateway, chosen.gateway))
    )
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.gateway, row.application, row.channel].append(row.device)
    return found


def _schemas_of_topics(connection: Connection, templates: set[str]) -> dict[str, list[tuple[str, bool]]]:
    table = t.topic_schemas
    found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for row in connection.execute(select(table).where(table.c.topic.in_(templates)).order_by(table.c.fingerprint)):
        found[row.topic].append((row.fingerprint, bool(row.reader)))
    return found


def _topic(broker: str, name: str, topic: _Topic, schemas: list[tuple[str, bool]]) -> Topic:
    return Topic(
        broker=broker,
        topic=name,
        site=topic.site,
        grouping=topic.grouping,
        direction=topic.direction,
        fingerprints=[fingerprint for fingerprint, _ in schemas],
        reader=next(fingerprint for fingerprint, reader in schemas if reader),
        gateways=sorted(topic.gateways),
        channels=sorted(topic.channels),
        available=topic.available,
    )


def _channels(rows: Sequence[Any]) -> list[Channel]:
    return [
        Channel(
            site=row.site,
            gateway=row.gateway,
            application=row.application,
            channel=row.channel,
            topic=row.topic,
            grouping=row.grouping,
            direction=row.direction,
            transport=row.transport,
            broker=row.url,
            fingerprint=row.fingerprint,
            schema=row.schema_name,
            available=bool(row.available),
        )
        for row in rows
    ]


def _schema(row: Any) -> Schema:
    record = msgspec.json.decode(row.record)
    return Schema(row.fingerprint, row.name, row.first_time, event=record, frame={"type": "array", "items": record})
