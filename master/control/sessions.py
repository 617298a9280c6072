"""The gateways that are connected to this process, one connection each."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from master.control.session import Session
from master.errors import NotFound
from schemas import rpc
from telemetry.logs import logger


class Sessions:
    """Which connection speaks for which gateway. Belongs to one event loop."""

    def __init__(self) -> None:
        self._by_gateway: dict[str, Session] = {}
        self._log = logger("control")

    def __len__(self) -> int:
        return len(self._by_gateway)

    async def join(self, session: Session) -> None:
        """Let ``session`` speak for its gateway; the one that did is told and closed."""
        name = session.gateway or ""
        before = self._by_gateway.get(name)
        if before is not None and before.epoch > session.epoch:
            # It registered while this one was on its way.
            await session.supersede(before.epoch)
            return
        self._by_gateway[name] = session
        if before is not None and before is not session:
            self._log.warning("connected again", gateway=name, before=before.epoch, now=session.epoch)
            # A connection that is half dead must not keep the new one waiting or end it.
            with contextlib.suppress(Exception):
                await before.supersede(session.epoch)

    def leave(self, session: Session) -> None:
        """The connection has ended."""
        if session.gateway is not None and self._by_gateway.get(session.gateway) is session:
            del self._by_gateway[session.gateway]

    async def call(self, gateway: str, method: str, params: object, *, within: float) -> msgspec.Raw:
        """Call a gateway. Raises `NotFound` when it is not connected, `Busy` and `RpcFailure`."""
        session = self._by_gateway.get(gateway)
        if session is None:
            raise NotFound(f"gateway {gateway!r} is not connected", remedy="its state is at /api/v1/gateways/" + gateway)
        return await session.call(method, params, within=within)

    async def drop(self, gateway: str) -> None:
        """Close the connection of a gateway that was forgotten; it will register anew."""
        session = self._by_gateway.pop(gateway, None)
        if session is not None:
            await session.close(rpc.CLOSE_FORGOTTEN, "forgotten")

    async def close(self) -> None:
        """Close all: the master is going down."""
        sessions = list(self._by_gateway.values())
        self._by_gateway.clear()
        await asyncio.gather(*(session.close(1012, "the master is going down") for session in sessions), return_exceptions=True)
