"""The stream of changes: server-sent events that go on after the last one a client has seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

import anyio.to_thread
import msgspec
from litestar import get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from master.errors import Busy, Invalid
from master.rest.parameters import Chosen, Many, Serving, chosen_by
from master.selection import Selection
from master.store import changes

MAX_WATCHERS: Final = 500
_BATCH: Final = 500
#: Seconds of silence after which a comment shows both sides that the other is there.
_KEEP_ALIVE: Final = 15.0


@get("/watch", summary="Changes as they happen (server-sent events), resumable by Last-Event-ID", media_type="text/event-stream")
async def watch(
    services: Serving,
    chosen: Chosen,
    kind: Annotated[Many, QueryParameter(description="Only these: gateway, application, channel, device, command.")] = None,
    after: Annotated[
        int | None, QueryParameter(description="Begin after this change; by default with what happens from now on.")
    ] = None,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Stream:
    """Events `change`, whose data is the change and whose id is its number.

    The first event is `ready` (its number is the last change that happened before: what is listed after it misses
    nothing), or `reset` when changes after the number given are no longer kept: list again, then go on. `reset` comes later
    too, to a client that reads so slowly that changes are given up before it was told them. A command has neither
    application nor channel to be chosen by.
    """
    chosen_by(chosen, "site", "gateway", "application", "device", "channel")
    if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isdigit()):
        raise Invalid(f"Last-Event-ID {last_event_id!r} is not a number", remedy="give the id of the last event you have seen")
    if services.hub.watchers >= MAX_WATCHERS:
        raise Busy(f"{MAX_WATCHERS} clients watch already", remedy="try again later")
    begin = int(last_event_id) if last_event_id else after
    return Stream(
        _events(services, chosen, kind or [], begin), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(services: Serving, chosen: Selection, kinds: list[str], begin: int | None) -> AsyncIterator[bytes]:
    services.hub.watchers += 1
    try:
        first, last = await anyio.to_thread.run_sync(_bounds, services)
        lost = begin is not None and not first - 1 <= begin <= last
        number = last if begin is None or lost else begin
        yield _event("reset" if lost else "ready", number, msgspec.json.encode({"number": number}))
        while not services.hub.closing:
            ticket = services.hub.ticket()
            found, seen, lost = await anyio.to_thread.run_sync(_after, services, number, chosen, kinds)
            if lost:
                number = seen
                yield _event("reset", number, msgspec.json.encode({"number": number}))
                continue
            for change in found:
                yield _event("change", change.number, msgspec.json.encode(change))
            if seen > number:
                number = seen
            elif not await services.hub.wait(ticket, _KEEP_ALIVE):
                # The number is told also when nothing of it was chosen, so that a client that comes back starts near.
                yield f"id: {number}\n: {number}\n\n".encode()
    finally:
        services.hub.watchers -= 1


def _bounds(services: Serving) -> tuple[int, int]:
    with services.database.read() as connection:
        return changes.bounds(connection)


def _after(services: Serving, number: int, chosen: Selection, kinds: list[str]) -> tuple[list[changes.Change], int, bool]:
    """As `changes.after`, and whether changes after ``number`` have been given up meanwhile: then those left are not told."""
    with services.database.read() as connection:
        found, seen = changes.after(connection, number, chosen, kinds, limit=_BATCH)
        # Looked at last: what is given up between the two looks is missed by none.
        first, last = changes.bounds(connection)
    return ([], last, True) if first - 1 > number else (found, seen, False)


def _event(name: str, number: int, data: bytes) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), number, data)


HANDLERS = (watch,)
