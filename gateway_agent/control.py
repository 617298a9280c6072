"""The link to the master: a WebSocket that the gateway opens and keeps open, with JSON-RPC 2.0 in both directions.

The agent does not need it: it retries for ever, with growing pauses, because a master may be away for as long as it likes.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from brokers.backoff import Backoff
from schemas import rpc
from schemas.errors import IoTCloudError
from telemetry.logs import logger

if TYPE_CHECKING:
    from websockets.sync.connection import Connection

_OPEN_WITHIN: Final = 10.0
_ANSWER_WITHIN: Final = 15.0
#: Reports kept while there is no connection; the oldest go first.
_MAX_REPORTS: Final = 1_000
#: Seconds after a refusal that will not change by itself, at most: half of it at least, so that a fleet spreads out.
_AFTER_REFUSAL: Final = 120.0

State = Literal["off", "connecting", "connected", "refused"]


class _Lost(Exception):
    """The connection is of no more use."""


class _Refused(_Lost):
    """The master does not want this gateway as it is."""


class _Message(msgspec.Struct):
    id: int | str | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: rpc.RpcError | None = None


class ControlLink:
    """Keeps a gateway registered. ``register``, ``heartbeat`` and ``methods`` are called from its own thread.

    ``methods`` are what the master may call, by name; their results must be JSON.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Callable[[], str],
        ca: str = "",
        register: Callable[[], rpc.Register],
        heartbeat: Callable[[], rpc.Heartbeat],
        methods: dict[str, Callable[[], Any]],
        answer_within: float = _ANSWER_WITHIN,
    ) -> None:
        self._url = _websocket_url(url)
        self._token = token
        self._ca = ca
        self._register = register
        self._heartbeat = heartbeat
        self._methods = methods
        self._answer_within = answer_within
        self._log = logger("control", master=url)
        self._stopping = threading.Event()
        self._again = threading.Event()
        self._reports: deque[rpc.Report] = deque(maxlen=_MAX_REPORTS)
        self._reported: dict[int, rpc.Report] = {}
        self._number = 0
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self.state: State = "connecting"
        self.detail = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, within: float) -> None:
        self._stopping.set()
        self._again.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
        self._thread.join(within)

    def report(self, report: rpc.Report) -> None:
        """Tell the master when there is one to tell; of very many the newest are kept."""
        self._reports.append(report)

    def register_anew(self) -> None:
        """What was registered has changed."""
        self._again.set()

    def _run(self) -> None:
        pauses = Backoff(0.5, 30.0)
        refusals = Backoff(_AFTER_REFUSAL, _AFTER_REFUSAL)
        while not self._stopping.is_set():
            self._again.clear()
            try:
                self._converse(pauses)
                pause = 0.0
            except _Refused as error:
                self._set("refused", str(error), level="error")
                pause = refusals.next()
            except (OSError, TimeoutError, _Lost, IoTCloudError, msgspec.MsgspecError) as error:
                self._set("connecting", str(error), level="warning")
                pause = pauses.next()
            except Exception as error:  # noqa: BLE001  (the library raises errors of its own; this thread must go on)
                self._set("connecting", f"{type(error).__name__}: {error}", level="warning")
                pause = pauses.next()
            finally:
                self._connection = None
                # What was not answered is told again.
                self._reports.extendleft(reversed(self._reported.values()))
                self._reported.clear()
            self._stopping.wait(pause)

    def _converse(self, pauses: Backoff) -> None:
        with self._connect() as connection:
            self._connection = connection
            if self._stopping.is_set():
                return
            number = self._call(connection, "register", self._register())
            answer = self._await(connection, number)
            terms = msgspec.json.decode(answer.result, type=rpc.Registered)
            self._set("connected", "", level="info")
            pauses.reset()
            self._keep(connection, terms)

    def _connect(self) -> Connection:
        from websockets.sync.client import connect

        token = self._token()  # read each time: a file with it may be renewed
        secure = self._url.startswith("wss:")
        local = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
        return connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else {},
            open_timeout=_OPEN_WITHIN,
            close_timeout=2.0,
            max_size=rpc.MAX_MESSAGE_BYTES,
            ssl=ssl.create_default_context(cafile=self._ca or None) if secure else None,
            proxy=None if local else True,
        )

    def _keep(self, connection: Connection, terms: rpc.Registered) -> None:
        """Heartbeats and reports out, calls in, until the connection ends or is to be made anew."""
        every = max(0.05, terms.heartbeat_seconds)
        beat_at = time.monotonic()
        unanswered: dict[int, float] = {}
        while not self._stopping.is_set() and not self._again.is_set():
            now = time.monotonic()
            if now >= beat_at:
                unanswered[self._call(connection, "heartbeat", self._heartbeat())] = now
                beat_at = now + every
            while self._reports and len(self._reported) < 16:
                report = self._reports.popleft()
                self._reported[self._call(connection, "report", report)] = report
            if unanswered and now - next(iter(unanswered.values())) > max(self._answer_within, terms.lease_seconds):
                raise _Lost("the master does not answer heartbeats")
            message = self._receive(connection, min(0.5, max(0.0, beat_at - now)))
            if message is None:
                continue
            if message.method:
                self._answer(connection, message)
            elif isinstance(message.id, int):
                unanswered.pop(message.id, None)
                self._reported.pop(message.id, None)
                if message.error is not None:
                    self._raise(message.error)

    def _await(self, connection: Connection, number: int) -> _Message:
        until = time.monotonic() + self._answer_within
        while (left := until - time.monotonic()) > 0:
            message = self._receive(connection, left)
            if message is None:
                continue
            if message.method:
                self._answer(connection, message)
            elif message.id == number:
                if message.error is not None:
                    self._raise(message.error)
                return message
        raise _Lost(f"no answer from the master within {self._answer_within:g} s")

    def _raise(self, error: rpc.RpcError) -> None:
        text = f"{error.message} ({error.data})" if error.data else error.message
        if error.code in (rpc.REFUSED, rpc.STALE_EPOCH, rpc.INVALID_PARAMS):
            raise _Refused(text)
        if error.code == rpc.NOT_REGISTERED:
            raise _Lost(text)
        self._log.warning("the master answers with an error", code=error.code, reason=text)
        if not self.state == "connected":
            raise _Lost(text)

    def _answer(self, connection: Connection, message: _Message) -> None:
        if message.method == "superseded":
            raise _Refused("another agent has registered with this gateway's id")
        if message.id is None:
            return
        method = self._methods.get(message.method)
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": message.id}
        if method is None:
            valid = ", ".join(sorted(self._methods))
            body["error"] = rpc.RpcError(rpc.METHOD_NOT_FOUND, f"no method {message.method!r}", f"one of {valid}")
        else:
            try:
                body["result"] = method()
            except Exception as error:  # noqa: BLE001  (a call that fails is answered, it ends nothing)
                body["error"] = rpc.RpcError(rpc.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        connection.send(msgspec.json.encode(body).decode())

    def _call(self, connection: Connection, method: str, params: Any) -> int:
        self._number += 1
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        connection.send(msgspec.json.encode(body).decode())
        return self._number

    def _receive(self, connection: Connection, timeout: float) -> _Message | None:
        try:
            text = connection.recv(timeout=timeout)
        except TimeoutError:
            return None
        return msgspec.json.decode(text, type=_Message)

    def _set(self, state: State, detail: str, *, level: Literal["info", "warning", "error"]) -> None:
        if (state, detail) != (self.state, self.detail):
            getattr(self._log, level)("the link to the master", state=state, reason=detail)
        self.state, self.detail = state, detail


def _websocket_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{ {'http': 'ws', 'https': 'wss'}.get(scheme, scheme) }://{rest.rstrip('/')}{rpc.PATH}"
