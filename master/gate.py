"""The door: before a request reaches a route, who asks, from where, how much, and for how long.

Metrics, health and the description of the interface are open. A refused WebSocket gets the status as
an HTTP answer to its handshake.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from litestar.types import ASGIApp, Message, Receive, Send

from master.security import Credentials, is_loopback
from master.services import Services
from master.views import Problem

_OPEN: Final = ("/metrics", "/live", "/ready")
_DESCRIPTION: Final = "/schema"
#: Streams end when their client goes, not at a deadline.
_STREAMS: Final = frozenset({"/api/v1/watch"})
#: Seconds for a request, its body included.
REQUEST_WITHIN: Final = 30.0
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, credentials: Credentials, *, within: float = REQUEST_WITHIN) -> None:
        self._app = app
        self._credentials = credentials
        self._within = within
        #: Set while the services run.
        self.services: Services | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        actor = self._credentials.actor(headers.get("authorization"))
        open_to_all = path in _OPEN or path == _DESCRIPTION or path.startswith(_DESCRIPTION + "/")
        problem: Problem | None = None
        if actor is None and not open_to_all:
            problem = Problem("Unauthorized", 401, "the token is missing or wrong", "send 'Authorization: Bearer TOKEN'")
        elif self._credentials.token is None:
            problem = _foreign(scope, headers)
        answer = _Answer(send)
        if problem is not None:
            await _refuse(scope, answer, problem)
        else:
            scope.setdefault("state", {})["actor"] = actor or "anonymous"
            await self._pass(scope, receive, answer)
        if self.services is not None and scope["type"] == "http":
            self.services.metrics.requests.labels(f"{answer.status // 100}xx").inc()

    def stop(self) -> None:
        """Let streams and requests that wait come to their end: the server is going down. Called from a signal handler."""
        if self.services is not None:
            self.services.hub.close_soon()

    async def _pass(self, scope: Any, receive: Receive, answer: _Answer) -> None:
        if scope["type"] != "http" or scope["path"] in _STREAMS:
            await self._app(scope, receive, answer)
            return
        try:
            async with asyncio.timeout(self._within):
                await self._app(scope, receive, answer)
        except TimeoutError:
            if not answer.status:
                late = Problem(
                    "Gateway Timeout", 504, f"no answer within {self._within:g} s", "send the body faster, or ask for less"
                )
                await _refuse(scope, answer, late)


class _Answer:
    """Passes an answer on and remembers its status; 0 while there is none."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _foreign(scope: Any, headers: dict[str, str]) -> Problem | None:
    """Without a token, a web page must not be able to speak to the master through its reader's browser.

    The name asked for must be this machine's own (else a foreign name could be pointed here), and what writes must be
    JSON, or carry no body, from no foreign origin (a page cannot send that without being allowed to first).
    """
    host = urlsplit("//" + headers.get("host", "")).hostname or ""
    if not is_loopback(host):
        return Problem(
            "Forbidden", 403, f"asked for as {host!r}, which is not this machine", "use localhost, or run with a token"
        )
    origin = headers.get("origin")
    if origin is not None and not is_loopback(urlsplit(origin).hostname or ""):
        return Problem("Forbidden", 403, f"asked for by a page of {origin}", "run the master with a token")
    method = scope.get("method")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method in _WRITES and method != "DELETE" and not kind.endswith("json"):
        return Problem(
            "Unsupported Media Type", 415, f"a body of type {kind or 'unknown'}", "send 'Content-Type: application/json'"
        )
    return None


async def _refuse(scope: Any, send: _Answer, problem: Problem) -> None:
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="iotcloud"'))
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send(_message(type="websocket.close", code=4401, reason=problem.detail))
            return
        kind = "websocket.http.response"
    await send(_message(type=f"{kind}.start", status=problem.status, headers=headers))
    await send(_message(type=f"{kind}.body", body=body))


def _message(**fields: Any) -> Any:
    return fields
