"""Writing the registry: registrations, what heartbeats tell, states, and gateways that are forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from master.errors import StaleEpoch
from master.leases import State
from master.registration import Checked
from master.store import tables as t
from master.store.compatibility import admit
from master.store.database import insert
from schemas.rpc import Application, ApplicationStatus, DeviceSeen, OutboxStatus


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is stored of a gateway's heartbeats now and then. Times: µs since 1970, UTC."""

    seen_time: int
    lease_until: int
    outbox: OutboxStatus | None


def register(connection: Connection, checked: Checked, *, time: int, lease_until: int) -> list[str]:
    """Replace what is known of a gateway; fingerprints of schemas that are new to a topic.

    Raises `StaleEpoch` and `Refused`; the caller rolls back.
    """
    message = checked.message
    name = message.gateway
    stored = connection.execute(select(t.gateways.c.epoch).where(t.gateways.c.gateway == name)).scalar_one_or_none()
    if stored is not None and message.epoch < stored:
        raise StaleEpoch(
            f"gateway {name}: epoch {message.epoch} is older than {stored}, which it has registered with",
            current=stored,
            remedy="stop the older agent; if the gateway was set up anew, make the master forget it first",
        )
    row = {
        "gateway": name,
        "site": message.site,
        "version": message.version,
        "epoch": message.epoch,
        "state": "online",
        "lease_until": lease_until,
        "seen_time": time,
        "registered_time": time,
        "commands_transport": message.commands_transport,
    }
    if stored is None:
        connection.execute(t.gateways.insert(), {**row, "first_time": time})
    else:
        connection.execute(update(t.gateways).where(t.gateways.c.gateway == name).values(row))
    _replace(connection, t.gateway_labels, name, [{"key": key, "value": value} for key, value in message.labels.items()])
    _replace(connection, t.transports, name, [{"name": one.name, "url": one.url} for one in message.transports])
    _replace(connection, t.command_specs, name, [spec for one in message.applications for spec in _specs(one)])
    _replace_applications(connection, name, message.applications)
    _replace(connection, t.channels, name, _channels(checked))
    new = []
    for application in message.applications:
        for channel in application.channels:
            schema = checked.schemas[application.name, channel.name]
            if admit(connection, channel.topic, schema, time=time):
                new.append(schema.fingerprint.hex())
    return new


def set_state(connection: Connection, name: str, state: State) -> None:
    connection.execute(update(t.gateways).where(t.gateways.c.gateway == name).values(state=state))


def set_pulses(connection: Connection, pulses: Mapping[str, Pulse]) -> None:
    for name, pulse in pulses.items():
        outbox = msgspec.json.encode(pulse.outbox).decode() if pulse.outbox else None
        values = {"seen_time": pulse.seen_time, "lease_until": pulse.lease_until, "outbox": outbox}
        connection.execute(update(t.gateways).where(t.gateways.c.gateway == name).values(values))


def set_applications(connection: Connection, name: str, statuses: Iterable[ApplicationStatus]) -> None:
    """States of applications, as the gateway's supervisor tells them. Ones it has not registered are passed over."""
    table = t.applications
    for status in statuses:
        connection.execute(
            update(table)
            .where(table.c.gateway == name, table.c.application == status.name)
            .values(state=status.state, restarts=status.restarts, detail=status.detail)
        )


def add_devices(connection: Connection, name: str, epoch: int, seen: Iterable[DeviceSeen], *, time: int) -> None:
    """Note devices seen in ``epoch``, on applications that the caller knows to be registered."""
    devices, channels = [], []
    for one in seen:
        key = {"gateway": name, "application": one.application, "device": one.device}
        devices.append({**key, "epoch": epoch, "first_time": time})
        channels += [{**key, "channel": channel, "first_time": time} for channel in one.channels]
    if devices:
        statement = insert(connection, t.devices)
        newest = {"epoch": statement.excluded.epoch}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["gateway", "application", "device"], set_=newest), devices
        )
    if channels:
        connection.execute(insert(connection, t.device_channels).on_conflict_do_nothing(), channels)


def devices_of(connection: Connection, name: str, epoch: int) -> set[tuple[str, str, str]]:
    """(application, device, channel) that were seen in ``epoch``."""
    devices, seen = t.devices, t.device_channels
    query = (
        select(seen.c.application, seen.c.device, seen.c.channel)
        .join(
            devices,
            (devices.c.gateway == seen.c.gateway)
            & (devices.c.application == seen.c.application)
            & (devices.c.device == seen.c.device),
        )
        .where(devices.c.gateway == name, devices.c.epoch == epoch)
    )
    return {(row.application, row.device, row.channel) for row in connection.execute(query)}


def states(connection: Connection) -> dict[str, State]:
    """The state of every gateway, as it was stored."""
    return {row.gateway: row.state for row in connection.execute(select(t.gateways.c.gateway, t.gateways.c.state))}


def command_brokers(connection: Connection) -> dict[str, str]:
    """The URL of the broker that carries each gateway's commands and results."""
    same = (t.transports.c.gateway == t.gateways.c.gateway) & (t.transports.c.name == t.gateways.c.commands_transport)
    query = select(t.gateways.c.gateway, t.transports.c.url).join(t.transports, same)
    return {row.gateway: row.url for row in connection.execute(query)}


def forget(connection: Connection, name: str) -> bool:
    """Remove a gateway with all that belongs to it but schemas, commands and the audit log; whether it was there."""
    return connection.execute(delete(t.gateways).where(t.gateways.c.gateway == name)).rowcount > 0


def _replace(connection: Connection, table: Any, name: str, rows: list[dict[str, Any]]) -> None:
    connection.execute(delete(table).where(table.c.gateway == name))
    if rows:
        connection.execute(table.insert(), [{"gateway": name, **row} for row in rows])


def _replace_applications(connection: Connection, name: str, registered: tuple[Application, ...]) -> None:
    """Applications keep their state when the gateway only connects again; devices of those gone go with them."""
    names = [application.name for application in registered]
    for table in (t.applications, t.devices, t.device_channels):
        connection.execute(delete(table).where(table.c.gateway == name, table.c.application.not_in(names)))
    for application in registered:
        seen, kept = t.device_channels, [channel.name for channel in application.channels]
        of_it = (seen.c.gateway == name) & (seen.c.application == application.name)
        connection.execute(delete(seen).where(of_it, seen.c.channel.not_in(kept)))
    stored = set(connection.execute(select(t.applications.c.application).where(t.applications.c.gateway == name)).scalars())
    for application in registered:
        row: dict[str, Any] = {"driver": application.driver, "version": application.version}
        key = {"gateway": name, "application": application.name}
        if application.name in stored:
            where = (t.applications.c.gateway == name) & (t.applications.c.application == application.name)
            connection.execute(update(t.applications).where(where).values(row))
        else:
            connection.execute(t.applications.insert(), {**key, **row, "state": "starting", "restarts": 0, "detail": ""})


def _specs(application: Application) -> list[dict[str, Any]]:
    return [
        {"application": application.name, "name": spec.name, "args": msgspec.json.encode(spec.args).decode()}
        for spec in application.commands
    ]


def _channels(checked: Checked) -> list[dict[str, Any]]:
    return [
        {
            "application": application.name,
            "channel": channel.name,
            "topic": channel.topic,
            "grouping": channel.grouping,
            "direction": channel.direction,
            "transport": channel.transport,
            "fingerprint": checked.schemas[application.name, channel.name].fingerprint.hex(),
        }
        for application in checked.message.applications
        for channel in application.channels
    ]
