"""Reading the registry: sites, gateways, applications."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from sqlalchemy import Connection, Table, case, func, select

from master.leases import State
from master.selection import Selection
from master.store import tables as t
from master.store.conditions import available, chosen_gateways, wanted
from master.store.pages import DEFAULT_LIMIT, page
from master.views import Application, Gateway, Page, Site
from schemas.rpc import CommandSpec, OutboxStatus, Transport


def sites(connection: Connection) -> list[Site]:
    counts = [func.sum(case((t.gateways.c.state == state, 1), else_=0)).label(state) for state in get_args(State)]
    rows = connection.execute(select(t.gateways.c.site, *counts).group_by(t.gateways.c.site).order_by(t.gateways.c.site))
    return [Site(row.site, int(row.online), int(row.suspect), int(row.lost)) for row in rows]


def gateways(
    connection: Connection, chosen: Selection, *, state: str | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Gateway]:
    query = select(t.gateways).where(*chosen_gateways(chosen))
    if state is not None:
        query = query.where(t.gateways.c.state == state)
    return page(connection, query, [t.gateways.c.gateway], lambda rows: _gateways(connection, rows), after=after, limit=limit)


def gateway(connection: Connection, name: str) -> Gateway | None:
    rows = connection.execute(select(t.gateways).where(t.gateways.c.gateway == name)).all()
    return _gateways(connection, rows)[0] if rows else None


def applications(
    connection: Connection, chosen: Selection, *, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Application]:
    table = t.applications
    query = (
        select(table, t.gateways.c.site, available())
        .join(t.gateways, t.gateways.c.gateway == table.c.gateway)
        .where(*chosen_gateways(chosen), *wanted(table.c.application, chosen.application))
    )
    return page(
        connection,
        query,
        [table.c.gateway, table.c.application],
        lambda rows: _applications(connection, rows),
        after=after,
        limit=limit,
    )


def _gateways(connection: Connection, rows: Sequence[Any]) -> list[Gateway]:
    names = [row.gateway for row in rows]
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows_of(connection, t.gateway_labels, names):
        labels[row.gateway][row.key] = row.value
    transports: dict[str, list[Transport]] = defaultdict(list)
    for row in rows_of(connection, t.transports, names):
        transports[row.gateway].append(Transport(row.name, row.url))
    applications: dict[str, list[str]] = defaultdict(list)
    for row in rows_of(connection, t.applications, names):
        applications[row.gateway].append(row.application)
    return [
        Gateway(
            gateway=row.gateway,
            site=row.site,
            labels=labels[row.gateway],
            version=row.version,
            epoch=row.epoch,
            state=row.state,
            lease_until=row.lease_until,
            seen_time=row.seen_time,
            first_time=row.first_time,
            registered_time=row.registered_time,
            commands_transport=row.commands_transport,
            transports=transports[row.gateway],
            applications=applications[row.gateway],
            outbox=msgspec.json.decode(row.outbox, type=OutboxStatus) if row.outbox else None,
        )
        for row in rows
    ]


def _applications(connection: Connection, rows: Sequence[Any]) -> list[Application]:
    specs: dict[tuple[str, str], list[CommandSpec]] = defaultdict(list)
    for row in rows_of(connection, t.command_specs, [row.gateway for row in rows]):
        specs[row.gateway, row.application].append(CommandSpec(row.name, msgspec.json.decode(row.args)))
    return [
        Application(
            site=row.site,
            gateway=row.gateway,
            application=row.application,
            driver=row.driver,
            version=row.version,
            state=row.state,
            restarts=row.restarts,
            detail=row.detail,
            available=bool(row.available),
            commands=specs[row.gateway, row.application],
        )
        for row in rows
    ]


def rows_of(connection: Connection, table: Table, names: Sequence[str]) -> Sequence[Any]:
    """The rows of a table that belong to these gateways, in the order of its key."""
    query = select(table).where(table.c.gateway.in_(sorted(set(names)))).order_by(*table.primary_key)
    return connection.execute(query).all()
