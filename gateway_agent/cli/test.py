"""``test``: run the drivers and print what they emit, as JSON lines. Nothing is kept, nothing is sent."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
import threading
import time
from datetime import datetime
from typing import Any

import fastavro
import msgspec

from gateway_agent.outbox import Batch, Route
from gateway_agent.outbox.queue import Done
from schemas.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="configuration, TOML")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long (default: 5)")
    parser.add_argument("--events", type=int, default=0, metavar="N", help="stop after so many")
    parser.add_argument("--application", action="append", default=[], metavar="NAME", help="only this one; may be repeated")


def run(given: argparse.Namespace) -> int:
    """Exit status 1 when an application failed."""
    from gateway_agent.config import load_config, nearest
    from gateway_agent.fleet import Fleet
    from telemetry.logs import configure
    from telemetry.stopping import set_by_signals

    configure(level="warning")
    loaded = load_config(given.file)
    for name in given.application:
        if name not in loaded.config.applications:
            raise ConfigurationError(f"no application {name!r}", remedy=nearest(name, loaded.config.applications))
    if given.application:
        kept = {name: loaded.config.applications[name] for name in given.application}
        loaded = dataclasses.replace(loaded, config=msgspec.structs.replace(loaded.config, applications=kept))
    enough = set_by_signals()
    printer = Printer(limit=given.events, enough=enough)
    fleet = Fleet(loaded, printer, loaded.brokers(), executed=lambda _: None, ended=lambda _: None, report=lambda *_: None)
    fleet.start()
    until = time.monotonic() + given.seconds
    while not enough.wait(0.1) and time.monotonic() < until:
        if all(status.state in ("stopped", "failed") for status in fleet.statuses()):
            break
    fleet.stop(5.0)
    failed = [status for status in fleet.statuses() if status.state == "failed" or status.restarts]
    for status in failed:
        sys.stderr.write(f"Error: {status.name}: {status.detail}\n")
    for status in fleet.statuses():
        sys.stderr.write(f"· {status.name}: {printer.counts.get(status.name, 0)} events, {status.rejected} rejected\n")
    return 1 if failed else 0


class Printer:
    """Stands for the outbox: `gateway_agent.host.application.Accepting`."""

    def __init__(self, *, limit: int, enough: threading.Event) -> None:
        self._limit = limit
        self._enough = enough
        self._lock = threading.Lock()
        #: Events by application.
        self.counts: dict[str, int] = {}

    def submit(self, batch: Batch, done: Done) -> None:
        with self._lock:
            for offer in batch.offers:
                for tail in offer.tails:
                    if self._limit and sum(self.counts.values()) >= self._limit:
                        break
                    self.counts[batch.application] = self.counts.get(batch.application, 0) + 1
                    self._print(batch.application, offer.route, tail)
            sys.stdout.flush()
            if self._limit and sum(self.counts.values()) >= self._limit:
                self._enough.set()
        done(None)

    def withdraw(self, application: str) -> None:
        """Nothing waits here."""

    def state_of(self, application: str) -> bytes | None:  # noqa: ARG002
        """Every test begins anew."""
        return None

    def _print(self, application: str, route: Route, tail: bytes) -> None:
        event: Any = fastavro.schemaless_reader(io.BytesIO(tail), route.schema.tail, None)
        shown = {"application": application, "topic": route.topic, **event}
        sys.stdout.write(json.dumps(shown, default=_plain, ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return f"{len(value)} bytes: {value[:32].hex()}"
    return str(value)
