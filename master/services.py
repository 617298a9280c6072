"""Everything a running master is made of, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from master.clock import Clock
from master.commanding import Commander
from master.control.sessions import Sessions
from master.dispatch.dispatcher import Dispatcher
from master.hub import Hub
from master.leases import Terms
from master.metrics import Metrics, make_metrics
from master.registry import Registry
from master.store import audit, commands
from master.store.database import Database
from telemetry.logs import logger

#: Seconds between looks for commands that are old, also while there are more; how many go in one transaction.
_TRIM_EVERY: Final = 600.0
_TRIM_SOON: Final = 0.1
_TRIMMED_AT_ONCE: Final = 500


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
async def running(database: Database, terms: Terms, clock: Clock, *, keep_commands: float) -> AsyncIterator[Services]:
    """The services over an open database, until the block is left. The database stays open. ``keep_commands``: seconds."""
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
    tasks = [asyncio.create_task(_sweep(registry)), asyncio.create_task(_trim(database, clock, keep_commands))]
    try:
        yield Services(database, registry, sessions, dispatcher, commander, hub, metrics, clock)
    finally:
        hub.close()
        for task in tasks:
            task.cancel()
        await sessions.close()
        await asyncio.gather(*tasks, return_exceptions=True)
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


async def _trim(database: Database, clock: Clock, keep: float) -> None:
    log = logger("retention")
    while True:
        pause = _TRIM_EVERY
        try:
            if await anyio.to_thread.run_sync(trim_commands, database, clock, keep) == _TRIMMED_AT_ONCE:
                pause = _TRIM_SOON
        except Exception:
            log.exception("old commands could not be given up; they are tried again")
        await asyncio.sleep(pause)


def trim_commands(database: Database, clock: Clock, keep: float) -> int:
    """Give up commands whose last step was recorded more than ``keep`` seconds ago, some at a time; how many it were."""
    now = clock.wall()
    with database.write() as connection:
        count = commands.trim(connection, before=now - round(keep * 1e6), now=now, limit=_TRIMMED_AT_ONCE)
        if count:
            audit.append(connection, time=now, actor="master", action="trim", subject="commands", detail=str(count))
    return count
