"""``run``: the agent, until it is told to stop."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from typing import Final

#: Seconds between looks at clocks, registration and the outbox.
_LOOK_EVERY: Final = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="configuration, TOML")
    parser.add_argument("--stop-within", type=float, default=10.0, metavar="SECONDS", help="for stopping drivers and publishing")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])


def run(given: argparse.Namespace) -> int:
    """Exit status 0 after SIGTERM or SIGINT; 1 when the agent could not go on."""
    from gateway_agent.agent import Agent
    from gateway_agent.config import load_config
    from gateway_agent.metrics import AgentMetrics, registry_of
    from telemetry.http import StatusServer
    from telemetry.logs import configure, logger

    configure(level=given.log_level)
    log = logger("agent")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    loaded = load_config(given.file)
    loaded.data_dir.mkdir(parents=True, exist_ok=True)
    agent = Agent(loaded)
    section = loaded.config.status
    metrics = AgentMetrics(agent.outbox.status, agent.fleet.statuses, agent.journal.counts)
    server = StatusServer(registry_of(metrics), ready=agent.ready, status=agent.status, host=section.host, port=section.port)
    url = f"http://{section.host}:{server.port}"
    loaded.status_url_file.write_text(url + "\n", encoding="utf-8")
    log.info("status is served", url=url)
    agent.start()
    _notify("READY=1")
    failed = None
    while not stopping.wait(_LOOK_EVERY) and failed is None:
        agent.look()
        _notify("WATCHDOG=1")
        failed = agent.outbox.failed
    _notify("STOPPING=1")
    started = time.monotonic()
    empty = agent.stop(given.stop_within)
    server.close()
    log.info("stopped", outbox="empty" if empty else "keeps what is not published", seconds=round(time.monotonic() - started, 2))
    if failed is not None:
        sys.stderr.write(f"Error: {failed.message}\nTry: {failed.remedy}\n")
        return 1
    return 0


def _notify(state: str) -> None:
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        sdnotify.SystemdNotifier().notify(state)
