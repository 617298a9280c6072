"""The applications of a gateway, and which of them serves a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from brokers import Broker
from gateway_agent.commands import Target
from gateway_agent.config import Loaded, nearest
from gateway_agent.host.application import Accepting, Application, Status, Supervision, Wiring
from gateway_agent.host.messages import Execute, Executed, Hello, Start
from gateway_agent.wiring import wire


class Fleet:
    """All applications of a configuration. ``report`` is told application, kind and detail of what happens.

    ``remembered`` are application, device and channel of what was emitted in earlier lives.
    """

    def __init__(
        self,
        loaded: Loaded,
        outbox: Accepting,
        brokers: Mapping[str, Broker],
        *,
        executed: Callable[[Executed], None],
        ended: Callable[[str], None],
        report: Callable[[str, str, str], None],
        remembered: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        self._loaded = loaded
        self._outbox = outbox
        self._brokers = brokers
        self._executed = executed
        self._ended = ended
        self._report = report
        self._applications = {name: self._application(name) for name in loaded.config.applications}
        #: Applications by the devices they emitted for in earlier lives.
        self._remembered: dict[str, set[str]] = {}
        for application, device, _ in remembered:
            self._remembered.setdefault(device, set()).add(application)

    def start(self) -> None:
        for application in self._applications.values():
            application.start()

    def stop(self, within: float) -> None:
        """Ask all drivers to stop, and wait up to ``within`` seconds for their ends."""
        until = time.monotonic() + within
        for application in self._applications.values():
            application.stop()
        for application in self._applications.values():
            application.join(max(0.1, until - time.monotonic()))

    def statuses(self) -> list[Status]:
        return [application.status() for application in self._applications.values()]

    def target(self, device: str, command: str) -> Target:
        """Who executes a command of a device."""
        statuses = {status.name: status for status in self.statuses()}
        owners = [status for status in statuses.values() if self._serves(status, device)]
        if not owners:
            if any(status.state in ("starting", "restarting") for status in statuses.values()):
                return Target("wait")
            return Target("never", reason=f"no device {device!r} here; {nearest(device, self._known_devices(statuses))}")
        known: set[str] = set()
        for owner in owners:
            names = {one.name for one in owner.hello.commands} if owner.hello else set()
            if owner.hello is None or command in names:
                return _readiness(owner)
            known |= names
        return Target("never", reason=f"{device!r} takes no command {command!r}; {nearest(command, known)}")

    def execute(self, application: str, command: Execute) -> bool:
        """Hand a command to the driver; False when it does not run."""
        return self._applications[application].execute(command)

    def _serves(self, status: Status, device: str) -> bool:
        declared = status.hello.devices if status.hello else ()
        return device in status.devices or device in declared or status.name in self._remembered.get(device, ())

    def _known_devices(self, statuses: Mapping[str, Status]) -> set[str]:
        known = {device for device, names in self._remembered.items() if names & statuses.keys()}
        for status in statuses.values():
            known |= {*status.devices, *(status.hello.devices if status.hello else ())}
        return known

    def _application(self, name: str) -> Application:
        section = self._loaded.config.applications[name]
        start = Start(
            site=self._loaded.config.gateway.site,
            application=name,
            driver=section.driver,
            settings=dict(section.settings),
            origin=str(self._loaded.path),
            folder=str(self._loaded.path.parent),
            schemas={channel: one.schema for channel, one in section.channels.items() if one.schema},
        )
        patience = section.restart
        return Application(
            start,
            self._outbox,
            wire=partial(self._wire, name),
            executed=self._executed,
            report=partial(self._report, name),
            ended=self._ended,
            supervision=Supervision(
                first_pause=patience.first_pause,
                longest_pause=patience.longest_pause,
                failures=patience.failures,
                window=patience.window,
                hung_after=patience.hung_after,
            ),
        )

    def _wire(self, name: str, hello: Hello) -> Wiring:
        return wire(self._loaded, name, hello, self._brokers)


def describe_status(one: Status) -> dict[str, Any]:
    """For the status page, as JSON values."""
    return {
        "name": one.name,
        "driver": one.driver,
        "state": one.state,
        "detail": one.detail,
        "restarts": one.restarts,
        "rejected": one.rejected,
        "last_rejected": one.last_rejected,
        "pid": one.pid,
        "devices": {device: sorted(channels) for device, channels in sorted(one.devices.items())},
    }


def _readiness(status: Status) -> Target:
    if status.state == "running":
        return Target("ready", status.name)
    if status.state in ("starting", "restarting"):
        return Target("wait")
    return Target("never", reason=f"the application {status.name!r} is {status.state}: {status.detail}")
