"""The registry at work: what gateways tell is checked, stored, journalled; leases say who is there.

Called from worker threads. One lock keeps leases and database in step: a lease changes its state only
when the database has, and no heartbeat slips in between. A heartbeat that tells nothing new touches
memory alone; `sweep` stores what it renewed, many gateways in one transaction.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sqlalchemy import Connection

from master.clock import Clock
from master.errors import NotFound, NotRegistered
from master.leases import Change, Leases, State, Terms
from master.registration import check
from master.store import audit, changes, gateways, reports
from master.store.database import Database
from master.store.gateways import Pulse
from master.store.journal import devices_added, journalled
from schemas.rpc import ApplicationStatus, DeviceSeen, Heartbeat, OutboxStatus, Register, Registered, Report
from telemetry.logs import logger


@dataclass(slots=True)
class _Live:
    """A gateway that has registered with this process."""

    epoch: int
    channels: dict[str, frozenset[str]]
    seen: set[tuple[str, str, str]]
    applications: tuple[ApplicationStatus, ...] = ()
    outbox: OutboxStatus | None = None
    seen_time: int = 0
    unsaved: bool = False
    refused: set[str] = field(default_factory=set)


class Registry:
    """Registers gateways, takes their heartbeats and reports, and judges their leases."""

    def __init__(self, database: Database, terms: Terms, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}
        self._log = logger("registry")
        self._leases = Leases(terms, now=clock.monotonic())
        with database.read() as connection:
            self._leases.restore(gateways.states(connection), now=clock.monotonic())

    @property
    def terms(self) -> Terms:
        return self._leases.terms

    def register(self, message: Register, *, actor: str) -> Registered:
        """Take over what a gateway says about itself. Raises `Refused` and `StaleEpoch`; nothing is stored then."""
        checked = check(message)
        name = message.gateway
        with self._lock:
            now = self._clock.wall()
            with self._database.write() as connection:
                with journalled(connection, name, time=now):
                    new = gateways.register(connection, checked, time=now, lease_until=self._lease_until(now))
                detail = f"site {message.site}, epoch {message.epoch}, version {message.version}"
                audit.append(connection, time=now, actor=actor, action="register", subject=f"gateway/{name}", detail=detail)
                for fingerprint in new:
                    audit.append(connection, time=now, actor=actor, action="add", subject=f"schema/{fingerprint}")
                seen = gateways.devices_of(connection, name, message.epoch)
            declared = {
                application.name: frozenset(channel.name for channel in application.channels)
                for application in message.applications
            }
            self._live[name] = _Live(message.epoch, declared, seen)
            self._leases.renew(name, now=self._clock.monotonic())
        self._log.info("registered", gateway=name, site=message.site, epoch=message.epoch)
        return Registered(lease_seconds=self.terms.lost, heartbeat_seconds=self.terms.heartbeat)

    def heartbeat(self, message: Heartbeat) -> None:
        """Renew a lease. Raises `NotRegistered` unless this epoch of the gateway has registered with this process."""
        name = message.gateway
        with self._lock:
            live = self._live.get(name)
            if live is None or live.epoch != message.epoch:
                raise NotRegistered(f"gateway {name} with epoch {message.epoch} is not registered", remedy="register first")
            now = self._clock.wall()
            added = self._new_devices(name, live, message.devices)
            returns = self._leases.state(name) != "online"
            if returns or added or live.applications != message.applications:
                with self._database.write() as connection:
                    with journalled(connection, name, time=now):
                        gateways.set_applications(connection, name, message.applications)
                        if returns:
                            self._store_state(connection, name, "online", now)
                    if added:
                        gateways.add_devices(connection, name, live.epoch, added, time=now)
                        devices_added(connection, name, [(one.application, one.device) for one in added], time=now)
                        detail = ", ".join(sorted({f"{one.application}/{one.device}" for one in added}))
                        audit.append(
                            connection, time=now, actor=f"gateway/{name}", action="see", subject=f"gateway/{name}", detail=detail
                        )
                    for status in self._changed(live, message):
                        subject = f"application/{name}/{status.name}"
                        detail = f"{status.state} {status.detail}".strip()
                        audit.append(
                            connection, time=now, actor=f"gateway/{name}", action="state", subject=subject, detail=detail
                        )
                live.seen.update((one.application, one.device, channel) for one in added for channel in one.channels)
                live.applications = message.applications
            self._leases.renew(name, now=self._clock.monotonic())
            live.outbox, live.seen_time, live.unsaved = message.outbox, now, True

    def report(self, message: Report) -> None:
        """Keep an event of a gateway's life. Raises `NotRegistered`."""
        with self._lock:
            if message.gateway not in self._live:
                raise NotRegistered(f"gateway {message.gateway} is not registered", remedy="register first")
            now = self._clock.wall()
            with self._database.write() as connection:
                reports.append(connection, message, time=now)
                audit.append(
                    connection,
                    time=now,
                    actor=f"gateway/{message.gateway}",
                    action="report",
                    subject=f"gateway/{message.gateway}",
                    detail=f"{message.kind} {message.application} {message.detail}".strip(),
                )

    def sweep(self) -> list[Change]:
        """Store what heartbeats renewed since the last time, and what leases have run out. Called every second or so."""
        with self._lock:
            unsaved = {name: live for name, live in self._live.items() if live.unsaved}
            due = self._leases.due(now=self._clock.monotonic())
            if not unsaved and not due:
                return []
            now = self._clock.wall()
            pulses = {
                name: Pulse(live.seen_time, self._lease_until(live.seen_time), live.outbox) for name, live in unsaved.items()
            }
            with self._database.write() as connection:
                gateways.set_pulses(connection, pulses)
                for change in due:
                    with journalled(connection, change.gateway, time=now):
                        self._store_state(connection, change.gateway, change.after, now)
                changes.trim(connection)
            for live in unsaved.values():
                live.unsaved = False
            self._leases.settle(due)
        for change in due:
            self._log.warning("lease", gateway=change.gateway, before=change.before, after=change.after)
        return due

    def forget(self, name: str, *, actor: str) -> None:
        """Remove a gateway from the registry. Raises `NotFound`."""
        with self._lock:
            now = self._clock.wall()
            with self._database.write() as connection:
                with journalled(connection, name, time=now):
                    found = gateways.forget(connection, name)
                if not found:
                    raise NotFound(f"there is no gateway {name!r}", remedy="GET /api/v1/gateways lists them")
                audit.append(connection, time=now, actor=actor, action="forget", subject=f"gateway/{name}")
            self._live.pop(name, None)
            self._leases.forget(name)

    def counts(self) -> dict[State, int]:
        """How many gateways are in each state."""
        with self._lock:
            return self._leases.counts()

    def _new_devices(self, name: str, live: _Live, devices: tuple[DeviceSeen, ...]) -> list[DeviceSeen]:
        """What of ``devices`` is not stored yet, without what the gateway has not declared."""
        found = []
        for one in devices:
            declared = live.channels.get(one.application)
            if declared is None or not one.device:
                if one.application not in live.refused:
                    live.refused.add(one.application)
                    self._log.warning("device of an unknown application", gateway=name, application=one.application)
                continue
            channels = tuple(
                channel
                for channel in one.channels
                if channel in declared and (one.application, one.device, channel) not in live.seen
            )
            if channels:
                found.append(DeviceSeen(one.device, one.application, channels))
        return found

    @staticmethod
    def _changed(live: _Live, message: Heartbeat) -> list[ApplicationStatus]:
        before = {status.name: status for status in live.applications}
        return [status for status in message.applications if before.get(status.name) != status]

    def _store_state(self, connection: Connection, name: str, state: State, now: int) -> None:
        gateways.set_state(connection, name, state)
        audit.append(connection, time=now, actor="master", action="state", subject=f"gateway/{name}", detail=state)

    def _lease_until(self, since: int) -> int:
        return since + round(self.terms.lost * 1_000_000)
