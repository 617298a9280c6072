"""Agents on several real brokers at once: their configuration, and all that came of a topic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from brokers import Broker, BrokerUnavailable, Delivery, QueueReader, connect
from brokers.subscription import subscribe
from schemas.control import is_control
from schemas.frame import FrameIdentity, decode_frame, identity
from schemas.registry import Schemas
from tests.brokers.patience import acknowledge_or_again
from tests.servers.broker_server import BrokerServer

GROUP = "tests"
PATIENCE = 90.0
_SCHEMAS = Schemas.with_shipped()


def write_configuration(
    file: Path,
    gateway: str,
    transports: Mapping[str, str],
    *,
    channels: Mapping[str, str],
    driver: str = "tests.gateway_agent.probes:Several",
    commands: str = "",
    more: str = "",
) -> None:
    """A gateway with URLs by the names of transports, and an application ``app`` with transports by the names of channels."""
    lines = ["[gateway]", f'id = "{gateway}"', f'site = "{gateway}"', f'commands_transport = "{commands}"', 'data_dir = "data"']
    for name, url in transports.items():
        lines += [f"[transports.{name}]", f"url = {json.dumps(url)}", f'groups = ["{GROUP}"]']
    lines += ["[applications.app]", f'driver = "{driver}"']
    if channels:
        lines += [f"settings = {{ channels = {json.dumps(list(channels))}, until = {json.dumps(str(until(file)))} }}"]
    for name, transport in channels.items():
        lines += [f"[applications.app.channels.{name}]", f'transport = "{transport}"']
    file.write_text("\n".join([*lines, more]))


def until(file: Path) -> Path:
    """The file that ends the application of a configuration."""
    return file.with_suffix(".until")


def topic_of(gateway: str, channel: str) -> str:
    return f"{gateway}.app.{channel}"


def received(urls: Sequence[str], topic: str, events: int) -> list[list[bytes]]:
    """All messages that brokers keep for `GROUP`, by broker, until there are so many different events among all of them."""
    brokers = [connect(url) for url in urls]
    readers = [subscribe(broker, [topic], group=GROUP, start="beginning") for broker in brokers]
    found: list[list[bytes]] = [[] for _ in urls]
    try:
        deadline = time.monotonic() + PATIENCE
        while (come := _events(found)) < events:
            assert time.monotonic() < deadline, f"{come} of {events} events of {topic} came: {_runs(brokers, found)}"
            for reader, frames in zip(readers, found, strict=True):
                # Some hand out the next message of a key when the one before is acknowledged: one at a time.
                while deliveries := _poll(reader):
                    frames += [delivery.value for delivery in deliveries]
                    acknowledge_or_again(reader, deliveries)
        return found
    finally:
        for reader in readers:
            reader.close()


def identities(frames: Iterable[bytes]) -> set[FrameIdentity]:
    """Of the frames of events among these."""
    return {identity(decode_frame(frame, _SCHEMAS).events) for frame in frames if not is_control(frame)}


def _poll(reader: QueueReader) -> Sequence[Delivery]:
    """A short one: there are others to poll."""
    try:
        return reader.poll(max_messages=1_000, timeout=0.2)
    except BrokerUnavailable:
        return []


def _runs(brokers: Sequence[Broker], found: Sequence[Sequence[bytes]]) -> str:
    """What came of each broker, as runs of (epoch, first, next), to show where something is missing."""
    runs: dict[str, list[list[int]]] = {}
    for broker, frames in zip(brokers, found, strict=True):
        ours = runs.setdefault(broker.url, [])
        for one in sorted(identities(frames)):
            if ours and ours[-1][::2] == [one.epoch, one.first]:
                ours[-1][2] = one.next
            else:
                ours.append([one.epoch, one.first, one.next])
    return str(runs)


def _events(found: Sequence[Sequence[bytes]]) -> int:
    return sum(one.count for one in set().union(*map(identities, found)))


def revive(server: BrokerServer) -> None:
    """Whatever was done to it."""
    server.proxy.restore()
    if not server.process.running:
        server.process.start()
