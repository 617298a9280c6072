"""Taking events over: they get their identity, and are kept or recorded as dropped."""

from __future__ import annotations

from gateway_agent.outbox import dropping, moving
from gateway_agent.outbox.framing import Framer
from gateway_agent.outbox.ledger import ROW_BYTES, Ledger
from gateway_agent.outbox.records import OUTBOX_FULL, Batch, Built, Offer, Route
from gateway_agent.outbox.stream import Stream
from schemas.control import EpochStart, encode_control


def needed(framer: Framer, batch: Batch) -> int:
    """Bytes of a batch, at most, that must not be dropped."""
    return sum(framer.size(offer.tails) + ROW_BYTES for offer in batch.offers if offer.route.when_full == "block")


def fits(ledger: Ledger, size: int) -> bool:
    """Whether ``size`` bytes that must not be dropped may be accepted now; an empty outbox takes anything."""
    return not size or not ledger.bytes or ledger.bytes + size <= ledger.max_bytes


def accept(ledger: Ledger, framer: Framer, batch: Batch, *, now: int) -> None:
    """Accept a batch within a transaction. ``now``, µs since 1970, becomes the gateway's time of its events."""
    for offer in batch.offers:
        if offer.tails:
            _accept_offer(ledger, framer, offer, now)
    execute = ledger.connection.execute
    if batch.state is not None:
        execute("INSERT OR REPLACE INTO states VALUES (?, ?)", (batch.application, batch.state))
    for device, channel in batch.devices:
        execute("INSERT OR IGNORE INTO devices VALUES (?, ?, ?)", (batch.application, device, channel))


def _accept_offer(ledger: Ledger, framer: Framer, offer: Offer, now: int) -> None:
    route = offer.route
    stream = _begun(ledger, route)
    for built in framer.frames(
        route.schema.fingerprint, offer.tails, first=stream.next_seq, time=now, max_bytes=route.max_frame_bytes
    ):
        stream.next_seq += built.count
        stream.accepted += built.count
        ledger.touch(stream)
        if route.when_full == "block" or _room(ledger, len(built.body) + ROW_BYTES, route):
            ledger.insert(stream, ledger.epoch, built, droppable=route.when_full == "drop_oldest")
        else:
            dropping.note(ledger, stream, built, OUTBOX_FULL)


def _room(ledger: Ledger, size: int, route: Route) -> bool:
    if route.when_full == "drop_oldest" and ledger.bytes + size > ledger.max_bytes:
        dropping.drop_oldest(ledger, ledger.max_bytes - size)
    return ledger.bytes + size <= ledger.max_bytes


def _begun(ledger: Ledger, route: Route) -> Stream:
    """The topic's stream. What is the first of an epoch in it comes after a record that says so."""
    stream = ledger.stream_of(route.topic)
    if stream.transport != route.transport:
        moving.move(ledger, stream, route.transport)
    if stream.epoch != ledger.epoch:
        before = None if stream.epoch < 0 else stream.epoch
        last = stream.next_seq - 1 if stream.next_seq else None
        record = EpochStart(ledger.gateway, ledger.epoch, before, last)
        stream.epoch, stream.next_seq, stream.open_drop = ledger.epoch, 0, None
        ledger.insert(stream, ledger.epoch, Built(0, 0, encode_control(record)))
    return stream
