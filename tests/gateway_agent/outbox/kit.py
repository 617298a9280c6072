"""Routes and events for tests of the outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway_agent.outbox import Batch, Held, Offer, Outbox, Route
from schemas.frame import encode_tail
from schemas.registry import shipped
from tests.gateway_agent.kit import Account

READING = shipped("Reading")
BLOB = shipped("Blob")
GATEWAY = "gw-1"
MAIN = "main"


def route(topic: str = "site.app.temperature", **options: object) -> Route:
    return Route(topic, MAIN, READING, **options)  # type: ignore[arg-type]


def tail(value: float, *, device: str = "d-1", time: int = 1_300_000_000_000_000) -> bytes:
    return encode_tail(READING, {"device": device, "channel": "temperature", "event_time": time, "value": value})


def tails(values: Iterable[float]) -> list[bytes]:
    return [tail(value) for value in values]


def blob_tail(size: int) -> bytes:
    event = {"device": "camera", "channel": "frames", "event_time": 0, "content_type": "x", "value": bytes(size)}
    return encode_tail(BLOB, event)


def batch(values: Sequence[float], where: Route | None = None, *, state: bytes | None = None) -> Batch:
    return Batch("app", [Offer(where or route(), tails(values))], state)


def open_outbox(directory: Path, **options: Any) -> Outbox:
    return Outbox(directory, gateway=GATEWAY, transports=[MAIN], **options)


def values(bodies: Sequence[bytes]) -> list[float]:
    """The values of the events in these bodies."""
    return [event["value"] for event in Account(bodies).events]


def publish_all(outbox: Outbox, transport: str = MAIN) -> list[Held]:
    """What a publisher whose broker takes everything would send."""
    sent: list[Held] = []
    after = -1
    while held := outbox.hand_out(transport, after=after, max_frames=7):
        sent += held
        after = held[-1].id
        outbox.let_go(held)
    return sent


def break_a_leaf(path: Path) -> None:
    """Overwrite a page in the middle of the tree of frames of an outbox, which must have more than one."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'frames'").fetchone()
    with path.open("r+b") as file:
        data = file.read()
        top = (root - 1) * 8192
        assert data[top] == 0x05, "not an inner page"
        count = int.from_bytes(data[top + 3 : top + 5])
        cell = int.from_bytes(data[top + 12 + count // 2 * 2 :][:2])
        file.seek((int.from_bytes(data[top + cell :][:4]) - 1) * 8192)
        file.write(b"\xde\xad" * 4096)
