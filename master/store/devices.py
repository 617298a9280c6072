"""Reading the registry: devices, with the channels and commands of their applications."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from master.selection import Selection
from master.store import tables as t
from master.store.conditions import available, chosen_gateways, wanted
from master.store.fleet import rows_of
from master.store.pages import DEFAULT_LIMIT, page
from master.store.topics import channel_rows
from master.views import Channel, Device, DeviceChannel, Page


def devices(connection: Connection, chosen: Selection, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Device]:
    table, seen = t.devices, t.device_channels
    query = (
        select(table, t.gateways.c.site, available())
        .join(t.gateways, t.gateways.c.gateway == table.c.gateway)
        .join(
            t.applications, and_(t.applications.c.gateway == table.c.gateway, t.applications.c.application == table.c.application)
        )
        .where(*chosen_gateways(chosen), *wanted(table.c.application, chosen.application), *wanted(table.c.device, chosen.device))
    )
    if chosen.channel:
        same = (seen.c.gateway == table.c.gateway, seen.c.application == table.c.application, seen.c.device == table.c.device)
        query = query.where(select(seen.c.device).where(*same, seen.c.channel.in_(chosen.channel)).exists())
    key = [table.c.device, table.c.gateway, table.c.application]
    return page(connection, query, key, lambda rows: _devices(connection, rows), after=after, limit=limit)


def _devices(connection: Connection, rows: Sequence[Any]) -> list[Device]:
    owners = {(row.gateway, row.application) for row in rows}
    channels: dict[tuple[str, str], list[Channel]] = defaultdict(list)
    for channel in channel_rows(connection, owners):
        channels[channel.gateway, channel.application].append(channel)
    commands: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows_of(connection, t.command_specs, [gateway for gateway, _ in owners]):
        commands[row.gateway, row.application].append(row.name)
    seen = _seen(connection, [row.device for row in rows])
    return [
        Device(
            site=row.site,
            gateway=row.gateway,
            application=row.application,
            device=row.device,
            available=bool(row.available),
            epoch=row.epoch,
            first_time=row.first_time,
            channels=[
                DeviceChannel(
                    channel=channel.channel,
                    topic=channel.topic.replace("{device}", row.device),
                    broker=channel.broker,
                    direction=channel.direction,
                    fingerprint=channel.fingerprint,
                    schema=channel.schema,
                    seen=(row.gateway, row.application, row.device, channel.channel) in seen,
                )
                for channel in channels[row.gateway, row.application]
            ],
            commands=commands[row.gateway, row.application],
        )
        for row in rows
    ]


def _seen(connection: Connection, names: Sequence[str]) -> set[tuple[str, str, str, str]]:
    table = t.device_channels
    rows = connection.execute(
        select(table.c.gateway, table.c.application, table.c.device, table.c.channel).where(table.c.device.in_(names))
    )
    return {(row.gateway, row.application, row.device, row.channel) for row in rows}
