"""Sites, gateways, applications, devices."""

from __future__ import annotations

import math
from typing import Annotated

import anyio.to_thread
import msgspec
from litestar import delete, get
from litestar.params import FromQuery, QueryParameter

from master.errors import Ambiguous, Invalid, NotFound
from master.rest.parameters import Actor, After, Chosen, InState, Limit, Name, Serving, chosen_by
from master.selection import Selection
from master.services import Services
from master.store import devices as stored_devices
from master.store import fleet
from master.store import reports as stored_reports
from master.store.pages import DEFAULT_LIMIT
from master.views import Application, Device, Gateway, Page, Report, Site

#: Seconds a gateway may take to answer, unless the request says otherwise, and at most.
_ANSWER_WITHIN = 5.0
_ANSWER_AT_MOST = 20.0

Timeout = Annotated[float, QueryParameter(description=f"Seconds to wait for the gateway's answer, up to {_ANSWER_AT_MOST:g}.")]


@get("/sites", sync_to_thread=True, summary="Sites, with their gateways counted by state")
def sites(services: Serving) -> list[Site]:
    with services.database.read() as connection:
        return fleet.sites(connection)


@get("/gateways", sync_to_thread=True, summary="Gateways")
def gateways(
    services: Serving, chosen: Chosen, reached: InState = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[Gateway]:
    chosen_by(chosen, "site", "gateway", "label")
    with services.database.read() as connection:
        return fleet.gateways(connection, chosen, state=reached, after=after, limit=limit)


@get("/gateways/{name:str}", sync_to_thread=True, summary="One gateway")
def gateway(services: Serving, name: Name) -> Gateway:
    with services.database.read() as connection:
        found = fleet.gateway(connection, name)
    if found is None:
        raise _no_gateway(name)
    return found


@delete("/gateways/{name:str}", summary="Forget a gateway; it may register anew, also with an older epoch")
async def forget(services: Serving, name: Name, actor: Actor) -> None:
    await anyio.to_thread.run_sync(lambda: services.registry.forget(name, actor=actor))
    await services.sessions.drop(name)
    await anyio.to_thread.run_sync(services.dispatcher.refresh)


@get("/gateways/{name:str}/reports", sync_to_thread=True, summary="What a gateway has reported of its own life, newest first")
def reports(services: Serving, name: Name, limit: Limit = DEFAULT_LIMIT) -> list[Report]:
    with services.database.read() as connection:
        return stored_reports.newest(connection, name, limit=limit)


@get("/gateways/{name:str}/ping", summary="Ask a gateway whether it is there, now")
async def ping(services: Serving, name: Name, timeout: Timeout = _ANSWER_WITHIN) -> msgspec.Raw:
    return await _call(services, name, "ping", timeout)


@get("/gateways/{name:str}/status", summary="Ask a gateway for its status, now")
async def status(services: Serving, name: Name, timeout: Timeout = _ANSWER_WITHIN) -> msgspec.Raw:
    return await _call(services, name, "get_status", timeout)


@get("/gateways/{name:str}/list", summary="Ask a gateway for its applications, now")
async def listing(services: Serving, name: Name, timeout: Timeout = _ANSWER_WITHIN) -> msgspec.Raw:
    return await _call(services, name, "list", timeout)


@get("/applications", sync_to_thread=True, summary="Applications, with the commands they take")
def applications(services: Serving, chosen: Chosen, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[Application]:
    chosen_by(chosen, "site", "gateway", "application", "label")
    with services.database.read() as connection:
        return fleet.applications(connection, chosen, after=after, limit=limit)


@get("/devices", sync_to_thread=True, summary="Devices, with their channels; `channel` chooses those seen on it")
def devices(services: Serving, chosen: Chosen, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[Device]:
    chosen_by(chosen, "site", "gateway", "application", "device", "channel", "label")
    with services.database.read() as connection:
        return stored_devices.devices(connection, chosen, after=after, limit=limit)


@get("/devices/{name:str}", sync_to_thread=True, summary="One device; `gateway` says which when several have one of that name")
def device(services: Serving, name: Name, gateway: FromQuery[str | None] = None) -> Device:
    with services.database.read() as connection:
        found = stored_devices.devices(connection, Selection(device=(name,), gateway=(gateway,) if gateway else ())).items
    if not found:
        raise NotFound(f"there is no device {name!r}", remedy="GET /api/v1/devices lists them; one appears with its first event")
    if len(found) > 1:
        names = ", ".join(sorted({one.gateway for one in found}))
        raise Ambiguous(f"several gateways have a device {name!r}: {names}", remedy="say which: ?gateway=…")
    return found[0]


async def _call(services: Services, name: str, method: str, timeout: float) -> msgspec.Raw:
    if not math.isfinite(timeout) or not 0 < timeout <= _ANSWER_AT_MOST:
        raise Invalid(f"timeout {timeout:g} is out of range", remedy=f"above 0 and up to {_ANSWER_AT_MOST:g} seconds")

    def known() -> bool:
        with services.database.read() as connection:
            return fleet.gateway(connection, name) is not None

    if not await anyio.to_thread.run_sync(known):
        raise _no_gateway(name)
    return await services.sessions.call(name, method, {}, within=timeout)


def _no_gateway(name: str) -> NotFound:
    return NotFound(f"there is no gateway {name!r}", remedy="GET /api/v1/gateways lists them")


HANDLERS = (sites, gateways, gateway, forget, reports, ping, status, listing, applications, devices, device)
