"""For the operator: metrics, health, status, the audit log."""

from __future__ import annotations

import anyio.to_thread
import msgspec
from litestar import MediaType, Response, get
from litestar.params import FromQuery
from prometheus_client import generate_latest
from sqlalchemy import text

from master.dispatch.dispatcher import BrokerStatus
from master.rest.parameters import Limit, Number, Serving
from master.store import audit as stored
from master.store.pages import DEFAULT_LIMIT


class Status(msgspec.Struct, frozen=True):
    """How the master is. ``time`` is µs since 1970, UTC."""

    time: int
    gateways: dict[str, int]
    connected: int
    heartbeat_seconds: float
    lease_seconds: float
    brokers: list[BrokerStatus]


@get("/metrics", sync_to_thread=True, include_in_schema=False)
def metrics(services: Serving) -> Response[bytes]:
    return Response(generate_latest(services.metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/live", include_in_schema=False, media_type=MediaType.TEXT)
async def live() -> str:
    return "live\n"


@get("/ready", include_in_schema=False)
async def ready(services: Serving) -> Response[str]:
    """Ready while the database answers."""

    def look() -> None:
        with services.database.read() as connection:
            connection.execute(text("SELECT 1 FROM gateways LIMIT 1"))

    try:
        with anyio.fail_after(2):
            await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
    except Exception:  # noqa: BLE001 - whatever the reason, it is not ready
        return Response("not ready\n", status_code=503, media_type=MediaType.TEXT)
    return Response("ready\n", media_type=MediaType.TEXT)


@get("/status", sync_to_thread=True, summary="How the master is, and the brokers that carry commands")
def status(services: Serving) -> Status:
    return Status(
        time=services.clock.wall(),
        gateways={str(state): count for state, count in services.registry.counts().items()},
        connected=len(services.sessions),
        heartbeat_seconds=services.registry.terms.heartbeat,
        lease_seconds=services.registry.terms.lost,
        brokers=services.dispatcher.status(),
    )


@get("/audit", sync_to_thread=True, summary="The audit log, in order, after a number: who changed what (commands have steps)")
def audit(
    services: Serving, after: Number = 0, limit: Limit = DEFAULT_LIMIT, subject: FromQuery[str | None] = None
) -> list[stored.Entry]:
    with services.database.read() as connection:
        return stored.entries(connection, after=after, limit=limit, subject=subject)


OPEN_HANDLERS = (metrics, live, ready)
HANDLERS = (status, audit)
