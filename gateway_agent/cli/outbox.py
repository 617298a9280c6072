"""``outbox``: look into an outbox, repair it, or publish what it holds without running any driver."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    inspect = actions.add_parser("inspect", help="what it holds; also while the agent runs")
    inspect.add_argument("--json", action="store_true")
    inspect.add_argument("--frames", type=int, default=0, metavar="N", help="the identities of the oldest N frames too")
    ledger = actions.add_parser(
        "ledger", help="its counters as JSON for 'iotcloud prove'; also while the agent runs, or after it died"
    )
    ledger.add_argument("place", type=Path, help="configuration, data directory, or the outbox's file itself")
    repair = actions.add_parser("repair", help="save what can be read into a new file; the agent must not run")
    replay = actions.add_parser("replay", help="publish what waits, in order, and let go of it; the agent must not run")
    replay.add_argument("--within", type=float, default=60.0, metavar="SECONDS")
    replay.add_argument(
        "--to", metavar="URL", help="another broker than the transports', also for what waits for those that are gone"
    )
    for one in (inspect, repair, replay):
        one.add_argument("file", help="configuration, TOML")


def run(given: argparse.Namespace) -> int:
    from gateway_agent.config import load_config
    from telemetry.logs import configure

    configure(level="warning")
    if given.action == "ledger":
        return _ledger(given.place)
    loaded = load_config(given.file)
    path = _existing(loaded.data_dir / "outbox.sqlite")
    if given.action == "inspect":
        return _inspect(path, given)
    if given.action == "repair":
        return _repair(path, loaded.config.gateway.id)
    return _replay(loaded, given)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ConfigurationError(f"{path}: there is no outbox", remedy="has the agent run with this configuration?")
    return path


def _ledger(place: Path) -> int:
    import msgspec

    from gateway_agent.config import load_config
    from gateway_agent.outbox.account import account_of

    if place.suffix == ".toml":
        place = load_config(place).data_dir
    path = _existing(place / "outbox.sqlite" if place.is_dir() else place)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(account_of(path)), indent=1).decode() + "\n")
    return 0


def _inspect(path: Path, given: argparse.Namespace) -> int:
    from gateway_agent.outbox.inspect import inspect_outbox

    found: dict[str, Any] = inspect_outbox(path, frames=given.frames)
    if given.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    sys.stdout.write(f"{path}\n  gateway {found['gateway']}, epoch {found['epoch']}, {found['file_bytes']:,} bytes on disk\n")
    for topic in found["topics"]:
        sys.stdout.write(
            f"  {topic['topic']:40} accepted {topic['accepted']:,} published {topic['published']:,}"
            f" dropped {topic['dropped']:,} waiting {topic['buffered_events']:,} ({topic['buffered_bytes']:,} bytes)\n"
        )
    for transport, events in found["transports"].items():
        sys.stdout.write(f"  transport {transport}: {events:,} events wait\n")
    for reason, events in found["dropped"].items():
        sys.stdout.write(f"  dropped for {reason}: {events:,} events\n")
    sys.stdout.write(f"  frames set aside as damaged: {found['damaged']:,}\n")
    for frame in found["frames"]:
        sys.stdout.write("  " + "  ".join(f"{key} {value}" for key, value in frame.items()) + "\n")
    return 0


def _repair(path: Path, gateway: str) -> int:
    from gateway_agent.outbox import wall_clock
    from gateway_agent.outbox.salvage import salvage

    saved = salvage(path, gateway=gateway, now=wall_clock())
    sys.stdout.write(f"saved {saved.frames:,} frames, {saved.rows:,} rows; the file before is kept as {saved.kept}\n")
    if not saved.complete:
        sys.stdout.write("some of it could not be read: what is missing is counted as dropped, reason damaged\n")
    return 0


def _replay(loaded: Any, given: argparse.Namespace) -> int:
    from brokers import connect
    from gateway_agent.outbox import Outbox
    from gateway_agent.publisher import TransportPublisher, drained

    config = loaded.config
    configured = list(config.transports)
    outbox = Outbox(loaded.data_dir, gateway=config.gateway.id, transports=configured, max_bytes=config.outbox.max_bytes)
    before, stranded = outbox.status(), outbox.stranded()
    brokers = {name: connect(given.to) for name in (*configured, *stranded)} if given.to else loaded.brokers()
    publishers = [
        TransportPublisher(
            name,
            broker,
            outbox,
            gateway=config.gateway.id,
            groups=config.transports[name].groups if name in config.transports else (),
        )
        for name, broker in brokers.items()
    ]
    started = time.monotonic()
    for publisher in publishers:
        publisher.start()
    empty = drained(outbox, given.within)
    for publisher in publishers:
        publisher.stop()
        publisher.join(5.0)
    after = outbox.status()
    outbox.close()
    published = after.published - before.published
    sys.stdout.write(
        f"published {published:,} events in {time.monotonic() - started:.1f} s; {after.buffered_events:,} still wait\n"
    )
    if not given.to:
        for name, frames in stranded.items():
            sys.stdout.write(
                f"{frames:,} frames are for the transport {name}, which is not configured: publish them with --to URL\n"
            )
    return 0 if empty else 1
