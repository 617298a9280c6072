"""``run``: the agent, until it is told to stop."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway_agent.config import Loaded
    from gateway_agent.outbox import OutboxError

#: Seconds between repairs of the outbox: a disk on which damage comes again at once is not to be filled with copies.
_REPAIR_EVERY: Final = 600.0
#: Seconds between looks at clocks, registration and the outbox.
_LOOK_EVERY: Final = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="configuration, TOML")
    parser.add_argument("--stop-within", type=float, default=10.0, metavar="SECONDS", help="for stopping drivers and publishing")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])


def run(given: argparse.Namespace) -> int:
    """Exit status 0 after SIGTERM or SIGINT; 1 when the agent could not go on."""
    from gateway_agent.config import load_config
    from gateway_agent.outbox import OutboxDamaged
    from telemetry.logs import configure, logger
    from telemetry.stopping import set_by_signals

    configure(level=given.log_level)
    log = logger("agent")
    stopping = set_by_signals()
    loaded = load_config(given.file)
    with _needed(loaded, ("gateway", "data_dir"), str(loaded.data_dir), remedy="name a folder that can be made and written"):
        loaded.data_dir.mkdir(parents=True, exist_ok=True)
    repaired: float | None = None
    while True:
        failed = _run_agent(loaded, stopping, given.stop_within)
        now = time.monotonic()
        if not isinstance(failed, OutboxDamaged) or stopping.is_set() or (repaired and now - repaired < _REPAIR_EVERY):
            break
        log.error("the outbox was found damaged: the agent starts again and repairs it", reason=failed.message)
        repaired = now
    if failed is not None:
        sys.stderr.write(failed.told)
        return 1
    return 0


def _run_agent(loaded: Loaded, stopping: threading.Event, stop_within: float) -> OutboxError | None:
    """Until it is told to stop, or why it cannot go on."""
    from gateway_agent.agent import Agent
    from gateway_agent.metrics import AgentMetrics, registry_of
    from gateway_agent.outbox import OutboxDamaged
    from telemetry.http import StatusServer
    from telemetry.logs import logger

    log = logger("agent")
    agent = Agent(loaded)
    section = loaded.config.status
    metrics = AgentMetrics(agent.outbox.status, agent.fleet.statuses, agent.journal.counts)
    where = f"{section.host}:{section.port}"
    with _needed(loaded, ("status", "port"), where, remedy="does another agent run? Port 0 takes a free one"):
        server = StatusServer(registry_of(metrics), ready=agent.ready, status=agent.status, host=section.host, port=section.port)
    url = f"http://{section.host}:{server.port}"
    with _needed(loaded, ("status", "url_file"), str(loaded.status_url_file), remedy="name a file in a folder that is there"):
        loaded.status_url_file.write_text(url + "\n", encoding="utf-8")
    log.info("status is served", url=url)
    agent.start()
    _notify("READY=1")
    failed = None
    while not stopping.wait(_LOOK_EVERY) and failed is None:
        agent.look()
        _notify("WATCHDOG=1")
        failed = agent.outbox.failed
    if not isinstance(failed, OutboxDamaged):
        _notify("STOPPING=1")
    started = time.monotonic()
    empty = agent.stop(stop_within)
    server.close()
    log.info("stopped", outbox="empty" if empty else "keeps what is not published", seconds=round(time.monotonic() - started, 2))
    return failed


@contextmanager
def _needed(loaded: Loaded, at: tuple[str, ...], what: str, *, remedy: str) -> Iterator[None]:
    """What the operating system refuses is wrong with the configuration: told with its place."""
    try:
        yield
    except OSError as error:
        raise loaded.error(at, f"{what}: {error.strerror or error}", remedy=remedy) from error


def _notify(state: str) -> None:
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        sdnotify.SystemdNotifier().notify(state)
