"""Everything a running master is made of, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio.to_thread

from master.clock import Clock
from master.commanding import Commander
from master.control.sessions import Sessions
from master.dispatch.dispatcher import Dispatcher
from master.hub import Hub
from master.leases import Terms
from master.metrics import Metrics, make_metrics
from master.registry import Registry
from master.store.database import Database
from telemetry.logs import logger


@dataclass(frozen=True)
class Services:
    """Belongs to one event loop."""

    database: Database
    registry: Registry
    sessions: Sessions
    dispatcher: Dispatcher
    commander: Commander
    hub: Hub
    metrics: Metrics
    clock: Clock


@contextlib.asynccontextmanager
async def running(database: Database, terms: Terms, clock: Clock) -> AsyncIterator[Services]:
    """The services over an open database, until the block is left. The database stays open."""
    hub = Hub(asyncio.get_running_loop())
    database.on_change(hub.notify)
    registry = Registry(database, terms, clock)
    sessions = Sessions()
    metrics = make_metrics(registry.counts, sessions.__len__, lambda: hub.watchers)

    def recorded(readable: int, unreadable: int) -> None:
        metrics.results.labels("yes").inc(readable)
        metrics.results.labels("no").inc(unreadable)

    dispatcher = Dispatcher(database, clock, recorded)
    commander = Commander(database, dispatcher, clock)
    await anyio.to_thread.run_sync(dispatcher.start)
    sweeping = asyncio.create_task(_sweep(registry))
    try:
        yield Services(database, registry, sessions, dispatcher, commander, hub, metrics, clock)
    finally:
        hub.close()
        sweeping.cancel()
        await sessions.close()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeping
        await anyio.to_thread.run_sync(dispatcher.close)
        # What heartbeats have renewed since the last sweep.
        await anyio.to_thread.run_sync(registry.sweep)


async def _sweep(registry: Registry) -> None:
    log = logger("leases")
    pause = min(1.0, registry.terms.heartbeat / 2)
    while True:
        await asyncio.sleep(pause)
        try:
            await anyio.to_thread.run_sync(registry.sweep)
        except Exception:
            log.exception("leases could not be stored; they are tried again")
