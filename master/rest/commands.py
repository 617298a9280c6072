"""Commands to devices, and the steps they reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import anyio.to_thread
from litestar import get, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED

from master import views
from master.errors import NotFound
from master.rest.parameters import Actor, After, Chosen, InState, Limit, Name, Number, Serving, chosen_by
from master.services import Services
from master.store import commands as stored
from master.store.pages import DEFAULT_LIMIT
from master.views import Command, CommandRequest, CommandState, Page

T = TypeVar("T")

#: Seconds a request waits for the broker to take a command, and for further steps at most.
_SENT_WITHIN: Final = 2.0
MAX_WAIT: Final = 25.0

Wait = Annotated[float, QueryParameter(ge=0, le=MAX_WAIT, description="Seconds to wait for a step when there is none yet.")]


class AddressedRequest(CommandRequest, frozen=True, kw_only=True):
    """An order and the device it is for."""

    device: str


@post("/devices/{device:str}/commands", status_code=HTTP_202_ACCEPTED, summary="Send a command to a device")
async def send(services: Serving, device: Name, data: JSONBody[CommandRequest], actor: Actor) -> Command:
    """Answers when the broker has it (`sent`), or after two seconds with `issued`: it is tried on until the deadline."""
    return await _send(services, device, data, actor)


@post("/commands", status_code=HTTP_202_ACCEPTED, summary="Send a command to the device named in it")
async def send_addressed(services: Serving, data: JSONBody[AddressedRequest], actor: Actor) -> Command:
    return await _send(services, data.device, data, actor)


@get("/commands", sync_to_thread=True, summary="Commands, in the order in which they became known")
def commands(
    services: Serving, chosen: Chosen, reached: InState = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[Command]:
    chosen_by(chosen, "site", "gateway", "device", "label")
    with services.database.read() as connection:
        return stored.commands(connection, chosen, state=reached, after=after, limit=limit)


@get("/commands/{id:str}", sync_to_thread=True, summary="One command and the last step it reached")
def command(services: Serving, id: Name) -> Command:  # noqa: A002
    return _command(services, id)


@get("/commands/{id:str}/states", summary="The steps of a command after a number; waits for one when there is none")
async def states(services: Serving, id: Name, after: Number = 0, wait: Wait = 0.0) -> list[CommandState]:  # noqa: A002
    def look() -> list[CommandState]:
        with services.database.read() as connection:
            return stored.states(connection, id, after=after)

    await anyio.to_thread.run_sync(_command, services, id)
    return await _until(services, look, bool, wait)


async def _send(services: Services, device: str, order: CommandRequest, actor: str) -> Command:
    sent = await anyio.to_thread.run_sync(lambda: services.commander.send(device, order, actor=actor))
    services.metrics.commands.inc()
    return await _until(services, lambda: _command(services, sent.id), lambda now: now.state != views.ISSUED, _SENT_WITHIN)


async def _until(services: Services, look: Callable[[], T], satisfied: Callable[[T], bool], seconds: float) -> T:
    """What ``look`` sees once it satisfies, or when the time is up."""
    until = time.monotonic() + seconds
    while True:
        ticket = services.hub.ticket()
        seen = await anyio.to_thread.run_sync(look)
        left = until - time.monotonic()
        if satisfied(seen) or left <= 0 or services.hub.closing:
            return seen
        await services.hub.wait(ticket, left)


def _command(services: Services, id: str) -> Command:  # noqa: A002
    with services.database.read() as connection:
        found = stored.get(connection, id)
    if found is None:
        raise NotFound(f"there is no command {id!r}", remedy="GET /api/v1/commands lists them")
    return found


HANDLERS = (send, send_addressed, commands, command, states)
