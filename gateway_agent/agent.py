"""The agent: an outbox, applications, publishers, commands and the link to the master, put together from a configuration."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from gateway_agent.clock import ClockWatch
from gateway_agent.commands import Commands
from gateway_agent.config import Loaded
from gateway_agent.control import ControlLink
from gateway_agent.fleet import Fleet, describe_status
from gateway_agent.host.messages import Executed, Hello
from gateway_agent.journal import Journal
from gateway_agent.outbox import Outbox, OutboxDamaged, wall_clock
from gateway_agent.outbox.salvage import salvage
from gateway_agent.publisher import TransportPublisher, drained
from gateway_agent.registration import heartbeat, registration
from schemas import rpc
from telemetry.logs import logger

#: Seconds to wait for applications to say what they are before the master is told of them.
_HELLO_WITHIN: Final = 5.0
#: Seconds for all publishers to end when they are told to.
_CLOSE_WITHIN: Final = 2.0


def version() -> str:
    try:
        return importlib.metadata.version("iotcloud")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _stranded_remedy(transport: str) -> str:
    return f"add [transports.{transport}] again, or stop the agent and use 'iotcloud gateway outbox replay --to URL'"


class Agent:
    """A gateway's agent. `start` it, `look` every second, `stop` it."""

    def __init__(self, loaded: Loaded) -> None:
        config = self._config = loaded.config
        self._loaded = loaded
        self._log = logger("agent", gateway=config.gateway.id)
        self._brokers = loaded.brokers()
        self.outbox = self._open_outbox()
        self.journal = Journal(loaded.data_dir / "commands.sqlite")
        self.clock = ClockWatch()
        self.started = wall_clock()
        self.fleet = Fleet(
            loaded,
            self.outbox,
            self._brokers,
            executed=self._executed,
            ended=self._ended,
            report=self._report,
            remembered=self.outbox.devices(),
        )
        self._publishers = {
            name: TransportPublisher(
                name,
                broker,
                self.outbox,
                gateway=config.gateway.id,
                groups=config.transports[name].groups,
                report=partial(self._report, ""),
            )
            for name, broker in self._brokers.items()
        }
        self._stranded = self.outbox.stranded()
        self.commands = Commands(config.gateway.id, self._brokers[loaded.default_transport], self.journal, self.fleet)
        self._control = self._make_control()
        self._told: Mapping[str, Hello | None] | None = None

    def start(self) -> None:
        for publisher in self._publishers.values():
            publisher.start()
        for name, frames in self._stranded.items():
            self._log.warning(
                "frames wait for a transport that is not configured any more",
                transport=name,
                frames=frames,
                remedy=_stranded_remedy(name),
            )
        if self.journal.put_aside is not None:
            detail = (
                f"commands.sqlite was damaged and is kept as {self.journal.put_aside}: commands issued until now are not executed"
            )
            self._log.error("the journal of commands begins anew", reason=detail)
            self._report("", "journal_damaged", detail)
        self.commands.start()
        self.fleet.start()
        self._log.info("started", epoch=self.outbox.epoch, applications=len(self._config.applications))

    def look(self) -> None:
        """What is to be done now and then: the clock, the registration."""
        step = self.clock.look()
        if step:
            self._log.warning("the clock was set", seconds=round(step, 3))
            self._report("", "clock_step", f"{step:+.3f} s")
        self._register_when_known()

    def stop(self, within: float) -> bool:
        """Stop drivers, publish what was accepted as far as the time goes; whether nothing is left in the outbox."""
        until = time.monotonic() + within
        self.fleet.stop(within)
        empty = drained(self.outbox, max(0.0, until - time.monotonic()))
        for publisher in self._publishers.values():
            publisher.stop()
        # Together, not each: one that waits for a silent broker stops with the process.
        until = time.monotonic() + _CLOSE_WITHIN
        for publisher in self._publishers.values():
            publisher.join(max(0.0, until - time.monotonic()))
        self.commands.stop(2.0)
        if self._control is not None:
            self._control.stop(3.0)
        self.outbox.close()
        self.journal.close()
        return empty

    # Looking

    def status(self) -> dict[str, Any]:
        """For people and tools, as JSON values."""
        config, outbox = self._config, self.outbox.status()
        clock = self.clock.state()
        return {
            "gateway": {
                "id": config.gateway.id,
                "site": config.gateway.site,
                "epoch": outbox.epoch,
                "version": version(),
                "started": self.started,
                "labels": config.gateway.labels,
            },
            "applications": [describe_status(one) for one in self.fleet.statuses()],
            "topics": {one.topic: one._asdict() for one in outbox.topics},
            "outbox": {key: value for key, value in outbox._asdict().items() if key not in ("topics", "epoch")},
            "transports": {
                name: {
                    "url": self._brokers[name].url,
                    "state": one.state,
                    "detail": one.detail,
                    "failures": one.failures,
                    "waiting": one.waiting,
                }
                for name, one in self._publishers.items()
            }
            | {
                name: {
                    "url": "",
                    "state": "missing",
                    "detail": f"at the start {frames} frames waited: {_stranded_remedy(name)}",
                    "failures": 0,
                    "waiting": {},
                }
                for name, frames in self._stranded.items()
            },
            "commands": self.journal.counts(),
            "control": {
                "state": self._control.state if self._control else "off",
                "detail": self._control.detail if self._control else "",
            },
            "clock": {"synchronised": clock.synchronised, "steps": clock.steps, "last_step": clock.last_step},
        }

    def ready(self) -> bool:
        """Whether events are accepted and no application is still on its way or has failed."""
        return not self.outbox.status().refusing and all(one.state in ("running", "stopped") for one in self.fleet.statuses())

    # Putting together

    def _open_outbox(self) -> Outbox:
        config, directory = self._config, self._loaded.data_dir
        try:
            return self._readable_outbox()
        except OutboxDamaged as error:
            saved = salvage(directory / "outbox.sqlite", gateway=config.gateway.id, now=wall_clock())
            self._log.error(
                "the outbox was damaged and has been repaired", reason=str(error), frames=saved.frames, kept=str(saved.kept)
            )
            return self._outbox()

    def _readable_outbox(self) -> Outbox:
        """One of which all that is needed to start can be read."""
        outbox = self._outbox()
        try:
            outbox.devices()
            for application in self._config.applications:
                outbox.state_of(application)
        except OutboxDamaged:
            outbox.close()
            raise
        return outbox

    def _outbox(self) -> Outbox:
        config = self._config
        return Outbox(
            self._loaded.data_dir,
            gateway=config.gateway.id,
            transports=list(config.transports),
            max_bytes=int(config.outbox.max_bytes),
        )

    # The master

    def _make_control(self) -> ControlLink | None:
        master = self._config.master
        if master is None:
            return None
        return ControlLink(
            master.url,
            token=self._loaded.token,
            ca=master.ca,
            register=self._registration,
            heartbeat=lambda: heartbeat(self._config.gateway.id, self.outbox.status(), self.fleet.statuses()),
            methods={
                "ping": wall_clock,
                "get_status": self.status,
                "list": lambda: msgspec.to_builtins(self._registration().applications),
            },
        )

    def _register_when_known(self) -> None:
        """The master is told of all applications at once, when all have said what they are or have had time to."""
        if self._control is None:
            return
        statuses = self.fleet.statuses()
        known = {one.name: one.hello for one in statuses}
        if self._told is None:
            late = wall_clock() - self.started > _HELLO_WITHIN * 1_000_000
            if late or not any(one.state == "starting" for one in statuses):
                self._told = known
                self._control.start()
        elif known != self._told:
            self._told = known
            self._control.register_anew()

    def _executed(self, executed: Executed) -> None:
        self.commands.executed(executed)

    def _ended(self, application: str) -> None:
        self.commands.application_ended(application)

    def _registration(self) -> rpc.Register:
        return registration(self._loaded, self.outbox.epoch, version(), self.fleet.statuses())

    def _report(self, application: str, kind: str, detail: str) -> None:
        if self._control is not None:
            self._control.report(rpc.Report(self._config.gateway.id, kind, application, detail, wall_clock()))
