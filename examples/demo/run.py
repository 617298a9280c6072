"""One run of the demonstration, from starting its processes to the proof."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from examples.demo import broker, stores
from examples.demo.batch import batch
from examples.demo.broker import EMBEDDED
from examples.demo.commands import FINAL, SentCommand, commands
from examples.demo.databases import opened
from examples.demo.expected import readings
from examples.demo.layout import CAPTURE, Layout, write_configuration
from examples.demo.observe import (
    Snapshot,
    TopicCounts,
    application,
    gateway_status,
    outbox_counts,
    pipeline_status,
    pipeline_url,
    rejected,
    snapshot,
    topic_counts,
)
from examples.demo.processes import Process, ProcessFailed, run_once, tail
from examples.demo.proof import Proof, Told, prove, summary
from examples.demo.results import Newest
from examples.demo.stores import LOCAL, SQLITE

_LOOK = 0.25
_START = 60.0
_STOP = 60.0
_COMMANDS = 60.0
#: Closing windows ends with their rows in the database, which may have to be waited for.
_DRAIN = 180.0
_LAST_PASS = 300.0
#: Nothing new for so long after the recordings have ended: the serial line has been read to its end.
_STILL = 2.0
#: Nothing at all for so long while there should be something.
_STUCK = 180.0
_RECORDED_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for. ``speed`` is a factor on the recorded pace."""

    recording: Path
    layout: Layout
    speed: float
    broker: str = EMBEDDED
    #: As in `examples.demo.stores`.
    archive: str = LOCAL
    database: str = SQLITE


Show = Callable[[Snapshot], None]


class Demonstration:
    """Starts the processes, follows them, stops them, and proves what came of it."""

    def __init__(self, request: Request, show: Show) -> None:
        self._request = request
        self._layout = request.layout
        self._show = show
        self._phase = "starting"
        #: What it last said, for when it has been stopped.
        self._gateway: dict[str, Any] | None = None
        self._expected = sum(1 for _ in readings(request.recording))
        self._seen = Snapshot(self._phase, self._expected)
        self._processes: dict[str, Process] = {}
        self._metrics: dict[str, str] = {}
        self._commands: list[SentCommand] = []

    def run(self) -> tuple[Proof, dict[str, Any]]:
        """Returns the proof and its summary. Raises `ProcessFailed` when there is nothing to prove."""
        began = time.monotonic()
        with ExitStack() as stack:
            self._layout.logs.mkdir(parents=True, exist_ok=True)
            self._enter(stack)
            stack.callback(self._kill)
            self._start_master()
            self._start_gateway()
            self._start_pipeline()
            self._replay()
            self._close()
            counts = self._stop_gateway()
            self._last_pass()
            self._commands = commands(self._database, self._layout)
            found = batch(self._layout, self._stores, self._database, self._tell)
            told = Told(counts, rejected(self._gateway), self._commands, found)
            proof = prove(self._request.recording, self._stores, self._database, told)
            restarts = {name: process.restarts for name, process in self._processes.items()}
            document = summary(
                proof, self._layout, self._stores, seconds=time.monotonic() - began, restarts=restarts, metrics=self._metrics
            )
            self._processes["master"].stop(deadline=_STOP)
        return proof, document

    def _enter(self, stack: ExitStack) -> None:
        """Have the broker and the stores."""
        request, layout = self._request, self._layout
        self._broker = stack.enter_context(broker.started(request.broker, layout.broker))
        self._stores = stack.enter_context(stores.started(request.archive, request.database, layout, self._tell))
        self._environment = {**self._broker.environment, **self._stores.environment}
        self._database = stack.enter_context(opened(self._stores.database, self._environment))
        self._newest = Newest(self._database)

    def _start_master(self) -> None:
        layout = self._layout
        self._start("master", ["-m", "master", "--data", str(layout.master), "--url-file", str(layout.master_url)])
        self._until(lambda: layout.master_url.exists() and layout.token.exists(), "the master listens")
        # A master that is started again must be found where it was.
        port = layout.master_url.read_text().strip().rpartition(":")[2]
        self._processes["master"].restart_with([sys.executable, "-m", "master", "--data", str(layout.master), "--port", port])

    def _start_gateway(self) -> None:
        layout = self._layout
        speed = self._request.speed
        values = {
            "DEMO_OUT": str(layout.out),
            "DEMO_BROKER": self._broker.url,
            "DEMO_MASTER": layout.master_url.read_text().strip(),
            "DEMO_CSV": str(self._request.recording),
            "DEMO_CAPTURE": str(CAPTURE),
            "DEMO_SPEED": str(speed),
            "DEMO_RATE": str(min(115_200.0, max(1_920.0, 1_920.0 * speed / 360))),
        }
        write_configuration(layout, values)
        self._start("gateway", ["-m", "gateway_agent", "run", str(layout.gateway)])
        # The recording is of 2010 and the fan is of today: the pipeline shall see the recording first, so that
        # its event time begins there.
        self._until(self._has_published, "the gateway publishes")

    def _has_published(self) -> bool:
        status = gateway_status(self._layout)
        if status is None:
            return False
        wsn = application(status, "wsn")
        if wsn["state"] == "failed":
            raise ProcessFailed(f"the recording cannot be replayed: {wsn['detail']}", remedy=f"look at {self._request.recording}")
        counts = topic_counts(status)
        nothing_to_come = wsn["state"] == "stopped"
        return nothing_to_come or all(
            counts[topic].published > 0 if topic in counts else False for topic in ("demo.wsn.humidity", "demo.wsn.temperature")
        )

    def _start_pipeline(self) -> None:
        self._start("pipeline", self._pipeline_command("--metrics-port", "0"))
        self._until(lambda: pipeline_status(self._layout) is not None, "the pipeline runs")
        self._metrics = {
            "gateway": self._layout.gateway_url.read_text().strip() + "/metrics",
            "pipeline": f"{pipeline_url(self._layout)}/metrics",
            "master": self._layout.master_url.read_text().strip() + "/metrics",
        }

    def _pipeline_command(self, *more: str) -> list[str]:
        layout = self._layout
        return [
            *("-m", "pipelines.run", "realtime", "--runner=PrismRunner"),
            *("--master", layout.master_url.read_text().strip(), "--select", "site=demo", "--token", f"file:{layout.token}"),
            *("--pipeline", str(layout.pipeline), "--sink", self._stores.database, "--archive", self._stores.archive),
            *("--state", str(layout.pipeline_state), "--status-file", str(layout.pipeline_status), "--close-on-drain"),
            *more,
        ]

    def _replay(self) -> None:
        """Follow until everything recorded has been replayed, published and read."""
        self._phase = "replaying"
        seen, since = -1, time.monotonic()
        while True:
            gateway, pipeline = self._look()
            accepted = sum(counts.accepted for counts in topic_counts(gateway).values()) if gateway else seen
            read = pipeline["totals"]["events"] if pipeline else 0
            if accepted + read != seen:
                seen, since = accepted + read, time.monotonic()
            still = time.monotonic() - since
            if still > _STILL and gateway and pipeline and self._is_over(gateway, pipeline):
                return
            if still > _STUCK:
                raise ProcessFailed(f"nothing has moved for {still:.0f} s", remedy=f"see {self._layout.logs}")

    @staticmethod
    def _is_over(gateway: dict[str, Any], pipeline: dict[str, Any]) -> bool:
        ended = all(application(gateway, name)["state"] in ("stopped", "failed") for name in ("wsn", "capture"))
        published = not any(counts.buffered for counts in topic_counts(gateway).values())
        return ended and published and pipeline["phase"] == "running" and pipeline["caught_up"]

    def _close(self) -> None:
        """Stop the pipeline, which closes its windows; then wait for the commands that this may have caused."""
        self._phase = "closing windows"
        self._look()
        while self._processes["pipeline"].stop(deadline=_DRAIN) != 0:
            # It died before it had closed its windows. The one after it does, while the gateway can still take commands.
            self._processes["pipeline"].start_again()
            self._replay()
            self._phase = "closing windows"
        deadline = time.monotonic() + _COMMANDS
        while time.monotonic() < deadline:
            self._look()
            if all(command.state in FINAL for command in self._commands):
                return

    def _stop_gateway(self) -> dict[str, TopicCounts]:
        """The last counts of its outbox, with everything published."""
        self._phase = "stopping the gateway"

        def published() -> bool:
            gateway, _ = self._look()
            return gateway is not None and not any(counts.buffered for counts in topic_counts(gateway).values())

        self._until(published, "everything is published")
        self._processes["gateway"].stop(deadline=_STOP)
        # What the fan said while it was stopped.
        command = [sys.executable, "-m", "gateway_agent", "outbox", "replay", str(self._layout.gateway)]
        self._run_once("gateway", "publishing what was left", command, deadline=_LAST_PASS)
        return outbox_counts(self._layout)

    def _last_pass(self) -> None:
        """What the fan said after the pipeline had stopped: the job resumes where it was, reads to the end, and closes."""
        self._phase = "reading the rest"
        self._look()
        command = [sys.executable, *self._pipeline_command("--until-end")]
        self._run_once("pipeline", "the last pass of the pipeline", command, deadline=_LAST_PASS)

    def _run_once(self, process: str, what: str, command: Sequence[str], *, deadline: float) -> None:
        log = self._layout.logs / f"{process}.log"
        status = run_once(what, command, log=log, environment=self._environment, deadline=deadline)
        if status:
            raise ProcessFailed(f"{what} ended with {status}: {tail(log)}", remedy=f"see {log}")

    def _look(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Check the processes, show where things stand, and wait a moment."""
        for process in self._processes.values():
            process.check()
        gateway, pipeline = gateway_status(self._layout), pipeline_status(self._layout)
        for name, status in (("gateway", gateway), ("pipeline", pipeline)):
            if status is not None and name in self._processes:
                self._processes[name].healthy()
        self._gateway = gateway or self._gateway
        self._commands = commands(self._database, self._layout)
        self._seen = snapshot(
            self._phase,
            self._expected,
            gateway=self._gateway,
            pipeline=pipeline,
            windows=self._newest.look(),
            commands=[command.line for command in self._commands],
        )
        self._show(self._seen)
        time.sleep(_LOOK)
        return gateway, pipeline

    def _tell(self, phase: str) -> None:
        """Show that something begins during which nothing else changes."""
        self._show(replace(self._seen, phase=phase))

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START
        while not holds():
            self._look()
            if time.monotonic() > deadline:
                tails = "; ".join(f"{name}: {process.tail()}" for name, process in self._processes.items())
                raise ProcessFailed(f"waited {_START:.0f} s in vain until {what}: {tails}", remedy=f"see {self._layout.logs}")

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        command = [sys.executable, *arguments]
        self._processes[name] = Process(name, command, log=self._layout.logs / f"{name}.log", environment=self._environment)

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()
