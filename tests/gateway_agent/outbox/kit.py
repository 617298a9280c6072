"""Routes and events for tests of the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway_agent.outbox import Batch, Held, Offer, Outbox, Route
from schemas.frame import encode_tail
from schemas.registry import shipped

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


def publish_all(outbox: Outbox, transport: str = MAIN) -> list[Held]:
    """What a publisher whose broker takes everything would send."""
    sent: list[Held] = []
    after = -1
    while held := outbox.hand_out(transport, after=after, max_frames=7):
        sent += held
        after = held[-1].id
        outbox.let_go(held)
    return sent
