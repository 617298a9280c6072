"""The route of the gateways' WebSocket."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio.to_thread
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from master.control.session import Session
from master.rest.parameters import Actor, Serving
from schemas import rpc
from telemetry.logs import logger


class _LitestarSocket:
    """`master.control.session.Socket` over Litestar's."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes | None:
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text = message.get("text")
        return text if text is not None else message.get("bytes") or b""

    async def send(self, text: str) -> None:
        await self._socket.send_text(text)

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code=code, reason=reason)


@websocket(rpc.PATH)
async def gateway_socket(socket: WebSocket[Any, Any, Any], services: Serving, actor: Actor) -> None:
    await socket.accept()

    async def joined(session: Session) -> None:
        await services.sessions.join(session)
        await anyio.to_thread.run_sync(services.dispatcher.refresh)

    session = Session(_LitestarSocket(socket), services.registry, actor=actor, joined=joined, calls=services.metrics.calls)
    try:
        await session.run()
    except (WebSocketDisconnect, TimeoutError, ConnectionError, RuntimeError) as error:
        logger("control").info("connection lost", gateway=session.gateway, problem=repr(error))
    except Exception:  # noqa: BLE001 - a defect; Litestar would close the connection and say nothing
        logger("control").exception("connection failed", gateway=session.gateway)
    finally:
        services.sessions.leave(session)
        with contextlib.suppress(Exception):
            await session.close(1011, "the master cannot go on with this connection")
