"""One gateway's connection: its calls are answered in their order, and the master may call it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import anyio.to_thread
import msgspec
from prometheus_client import Counter

from master.control.jsonrpc import Answer, Call, RpcFailure, failure, parameters, read, request, success
from master.errors import Busy, NotRegistered, Refused, StaleEpoch
from master.registry import Registry
from schemas import rpc
from telemetry.logs import logger

#: Seconds in which a new connection must register, and in which a message must have been taken by the network.
REGISTER_WITHIN: Final = 15.0
SEND_WITHIN: Final = 10.0
#: Calls to one gateway that may wait for their answers at once.
MAX_CALLS: Final = 64


class Socket(Protocol):
    """What a session needs of a WebSocket."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the other side is gone."""

    async def send(self, text: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class Session:
    """Serves one connection until it ends. ``joined`` is told when the gateway has registered on it."""

    def __init__(
        self, socket: Socket, registry: Registry, *, actor: str, joined: Callable[[Session], Awaitable[None]], calls: Counter
    ) -> None:
        self._socket = socket
        self._registry = registry
        self._actor = actor
        self._joined = joined
        self._calls = calls
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._number = 0
        self._sending = asyncio.Lock()
        self._closed = False
        self.gateway: str | None = None
        self.epoch = -1
        self._log = logger("control")

    async def run(self) -> None:
        """Answer calls until either side closes, or the gateway has been silent for longer than its lease."""
        try:
            while not self._closed:
                within = REGISTER_WITHIN if self.gateway is None else max(REGISTER_WITHIN, 2 * self._registry.terms.lost)
                try:
                    message = await asyncio.wait_for(self._socket.receive(), within)
                except TimeoutError:
                    await self.close(rpc.CLOSE_NOT_REGISTERED, f"nothing was heard for {within:g} s")
                    return
                if message is None:
                    return
                await self._take(message)
        finally:
            self._closed = True
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(
                        Busy(f"the connection to gateway {self.gateway} was lost", remedy="it will come back by itself")
                    )

    async def call(self, method: str, params: object, *, within: float) -> msgspec.Raw:
        """Call the gateway. Raises `Busy` when it does not answer in ``within`` seconds, and `RpcFailure`."""
        if len(self._waiting) >= MAX_CALLS:
            raise Busy(f"gateway {self.gateway}: {MAX_CALLS} calls wait for their answers", remedy="try again later")
        self._number += 1
        number = self._number
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(within):
                await self._send(request(method, params, number))
                return await future
        except TimeoutError:
            raise Busy(f"gateway {self.gateway} did not answer {method!r} in {within:g} s", remedy="is it still there?") from None
        finally:
            self._waiting.pop(number, None)

    async def supersede(self, epoch: int) -> None:
        """Tell the gateway that it has connected again, and close."""
        params = rpc.Superseded(self.gateway or "", epoch)
        try:
            await self._send(request("superseded", params, None))
        finally:
            await self.close(rpc.CLOSE_STALE_EPOCH, f"connected again with epoch {epoch}")

    async def close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            async with asyncio.timeout(SEND_WITHIN):
                await self._socket.close(code, reason[:100])

    async def _take(self, message: str | bytes) -> None:
        try:
            found = read(message)
        except RpcFailure as error:
            self._calls.labels("unreadable", str(error.code)).inc()
            await self._send(failure(error))
            return
        if isinstance(found, Answer):
            self._settle(found)
            return
        code = 0
        try:
            result = await self._perform(found)
            if not found.notification:
                await self._send(success(found.id, result))
        except RpcFailure as error:
            code, error.id = error.code, found.id
            if not found.notification:
                await self._send(failure(error))
            if code == rpc.STALE_EPOCH:
                await self.close(rpc.CLOSE_STALE_EPOCH, error.message)
        finally:
            known = found.method if found.method in _METHODS else "unknown"
            self._calls.labels(known, str(code)).inc()
        if self.gateway is not None and found.method == "register" and code == 0:
            await self._joined(self)

    def _settle(self, answer: Answer) -> None:
        future = self._waiting.get(answer.id) if isinstance(answer.id, int) else None
        if future is None or future.done():
            return
        if answer.error is not None:
            future.set_exception(RpcFailure(answer.error.code, answer.error.message, remedy=answer.error.data))
        else:
            future.set_result(answer.result)

    async def _perform(self, call: Call) -> Any:
        method = _METHODS.get(call.method)
        if method is None:
            raise RpcFailure(rpc.METHOD_NOT_FOUND, f"no method {call.method!r}", remedy="one of " + ", ".join(_METHODS))
        try:
            return await method(self, call)
        except (Refused, StaleEpoch, NotRegistered, Busy) as error:
            raise RpcFailure(_CODES[type(error)], error.message, remedy=error.remedy) from None
        except RpcFailure:
            raise
        except Exception as error:  # noqa: BLE001 - a defect here must not end the connection
            self._log.exception("a call failed", method=call.method, gateway=self.gateway)
            raise RpcFailure(
                rpc.INTERNAL_ERROR, f"{call.method}: {type(error).__name__}", remedy="see the master's log"
            ) from None

    async def _register(self, call: Call) -> rpc.Registered:
        message = parameters(call, rpc.Register)
        if self.gateway is not None:
            raise RpcFailure(
                rpc.INVALID_REQUEST, f"gateway {self.gateway} has registered on this connection", remedy="connect anew"
            )
        registered = await anyio.to_thread.run_sync(lambda: self._registry.register(message, actor=self._actor))
        self.gateway, self.epoch = message.gateway, message.epoch
        return registered

    async def _heartbeat(self, call: Call) -> None:
        message = parameters(call, rpc.Heartbeat)
        self._check_own(message.gateway)
        await anyio.to_thread.run_sync(self._registry.heartbeat, message)

    async def _report(self, call: Call) -> None:
        message = parameters(call, rpc.Report)
        self._check_own(message.gateway)
        await anyio.to_thread.run_sync(self._registry.report, message)

    def _check_own(self, gateway: str) -> None:
        if self.gateway != gateway:
            raise NotRegistered(f"gateway {gateway!r} has not registered on this connection", remedy="register first")

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(SEND_WITHIN), self._sending:
            await self._socket.send(text)


_METHODS: Final[dict[str, Callable[[Session, Call], Awaitable[Any]]]] = {
    "register": Session._register,  # noqa: SLF001
    "heartbeat": Session._heartbeat,  # noqa: SLF001
    "report": Session._report,  # noqa: SLF001
}
_CODES: Final[dict[type[Exception], int]] = {
    Refused: rpc.REFUSED,
    StaleEpoch: rpc.STALE_EPOCH,
    NotRegistered: rpc.NOT_REGISTERED,
    Busy: rpc.BUSY,
}
