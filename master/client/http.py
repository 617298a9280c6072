"""Requests to the master: decoded answers, clear errors, and a few attempts for what can be asked twice."""

from __future__ import annotations

import math
import os
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from brokers.backoff import Backoff
from master.client.errors import MasterRefused, MasterUnavailable
from master.views import Page, Problem
from schemas.errors import ConfigurationError
from settings.substitution import redact, secret

T = TypeVar("T")

TOKEN_VARIABLE: Final = "IOTCLOUD_TOKEN"  # noqa: S105 - its name, not its value
_API: Final = "/api/v1"
_ATTEMPTS: Final = 4
#: Seconds that an answer may take however little time is left.
_SHORTEST: Final = 1.0
#: Statuses that are not about the request: a master with too much to do, or a proxy whose master is away.
_LATER: Final = frozenset({429, 502, 503, 504})
Parameters = Sequence[tuple[str, str]]


class Http:
    """A connection to one master. May be used by several threads."""

    def __init__(self, url: str, token: str | None, *, ca: Path | str | None = None, timeout: float = 10.0) -> None:
        """Raises `ConfigurationError` for a URL or token that cannot be one."""
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"{url!r} is not the URL of a master", remedy="write it as http://HOST:PORT or https://HOST:PORT"
            )
        given = token if token is not None else os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": "Bearer " + secret(given, origin="token")} if given else {}
        try:
            verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca is not None else True
            self._client = httpx.Client(base_url=url.rstrip("/") + _API, headers=headers, timeout=timeout, verify=verify)
        except (OSError, httpx.InvalidURL, UnicodeError) as error:
            raise ConfigurationError(
                f"{redact(url)}: {error}", remedy="check the URL, the token and the file of the CA"
            ) from error
        self.url = redact(url.rstrip("/"))
        self._timeout = timeout

    def get(self, path: str, kind: type[T], parameters: Parameters = (), *, wait: float = 0.0, within: float = math.inf) -> T:
        """GET. Raises `MasterError`.

        ``wait`` is how long the master may take on purpose, beside the timeout; ``within`` bounds all attempts together,
        to two seconds or so. Both in seconds.
        """
        return self._request("GET", path, kind, parameters=parameters, wait=wait, within=within)

    def post(self, path: str, kind: type[T], body: object) -> T:
        """POST what is harmless to send twice. Raises `MasterError`."""
        return self._request("POST", path, kind, body=body)

    def pages(self, path: str, kind: type[T], parameters: Parameters = ()) -> Iterator[T]:
        """All items of a list that comes in parts. Raises `MasterError`."""
        after: str | None = None
        while True:
            page = self.get(path, Page[kind], [*parameters, *([("after", after)] if after else [])])  # type: ignore[valid-type]
            yield from page.items
            after = page.next
            if after is None:
                return

    @contextmanager
    def stream(self, path: str, parameters: Parameters, headers: Mapping[str, str], *, silence: float) -> Iterator[Iterator[str]]:
        """The lines of an answer without an end; ``silence`` seconds without one are an error. Raises `MasterError`."""
        timeout = httpx.Timeout(self._timeout, read=silence)
        try:
            with self._client.stream("GET", path, params=list(parameters), headers=headers, timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    raise self._refusal(response)
                yield response.iter_lines()
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        self._client.close()

    def _request(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        parameters: Parameters = (),
        body: object = None,
        wait: float = 0.0,
        within: float = math.inf,
    ) -> T:
        content = None if body is None else msgspec.json.encode(body)
        backoff = Backoff(first=0.1, longest=1.0)
        until = time.monotonic() + within
        attempt = 1
        while True:
            limit = min(self._timeout, max(_SHORTEST, until - time.monotonic() - wait))
            request = self._client.build_request(
                method,
                path,
                params=list(parameters),
                content=content,
                headers={} if content is None else {"Content-Type": "application/json"},
                timeout=httpx.Timeout(limit, read=limit + wait),
            )
            try:
                return self._attempt(request, kind)
            except MasterUnavailable:
                pause = backoff.next()
                if attempt == _ATTEMPTS or time.monotonic() + pause >= until:
                    raise
                time.sleep(pause)
                attempt += 1

    def _attempt(self, request: httpx.Request, kind: type[T]) -> T:
        try:
            response = self._client.send(request)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        if response.status_code >= 400:
            raise self._refusal(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise MasterRefused(
                f"{self.url}{request.url.path}: answered what this client does not understand: {error}",
                status=response.status_code,
                remedy="is it a master, and of a version that fits?",
            ) from error

    def _unavailable(self, error: Exception) -> MasterUnavailable:
        reason = str(error) or type(error).__name__
        return MasterUnavailable(
            f"{self.url}: the master cannot be reached: {reason}", remedy="is it running, and is the URL right?"
        )

    def _refusal(self, response: httpx.Response) -> MasterRefused | MasterUnavailable:
        status = response.status_code
        try:
            problem = msgspec.json.decode(response.content, type=Problem)
        except msgspec.DecodeError:
            if status in _LATER:
                return MasterUnavailable(f"{self.url}: answered {status}", remedy="try again later")
            return MasterRefused(
                f"{self.url}: answered {status} to {response.request.url.path}", status=status, remedy="is it a master?"
            )
        remedy = problem.remedy
        if status in _LATER:
            return MasterUnavailable(f"{self.url}: {problem.detail}", remedy=remedy or "try again later")
        if status == 401:
            remedy = f"give the master's token (token=…, or {TOKEN_VARIABLE} in the environment; file:PATH names a file)"
        return MasterRefused(f"{self.url}: {problem.detail}", status=status, remedy=remedy)


def quoted(name: str) -> str:
    """``name`` as one part of a path."""
    return quote(name, safe="")
