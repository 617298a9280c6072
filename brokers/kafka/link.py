"""Connections to a cluster, driven by a thread of their own, and waits that end at a deadline or with `close`.

Below are the connections of kafka-python (TLS, SASL, versions of requests); above, each question is one request to one
node. What kafka-python's consumer and producer do in the background is not used: a caller here must know at its
deadline what was answered, and nothing of it may be repeated later.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafka import errors  # type: ignore[import-untyped]
from kafka.net.manager import KafkaConnectionManager  # type: ignore[import-untyped]
from kafka.net.selector import NetworkSelector  # type: ignore[import-untyped]

from brokers.kafka import transports
from brokers.kafka.encryption import Encryption
from brokers.kafka.failures import Trouble, closed, late
from brokers.kafka.options import KafkaOptions

#: A broker's id, or the name of a server of the URL.
Node = int | str
Pending = Any

_SETTINGS: Final = {
    "max_in_flight_requests_per_connection": 64,
    "receive_message_max_bytes": 300_000_000,
    "reconnect_backoff_ms": 50,
    "reconnect_backoff_max_ms": 1_000,
    # Its default, 0.1 s, complains about a busy machine.
    "slow_task_threshold_secs": 0,
}
#: Seconds that an answer may come after its deadline: the connection's own error says more than ours.
_GRACE: Final = 0.25
#: Seconds between looks at a connection that takes no more for the moment.
_FULL_PAUSE: Final = 0.005


class Link:
    """Opens nothing until it is first asked. All methods raise `Trouble`."""

    def __init__(self, settings: Mapping[str, Any], options: KafkaOptions) -> None:
        self._settings = {**_SETTINGS, **settings}
        self._options = options
        self._encryption: Encryption | None = None
        self._changed = threading.Condition()
        self._opening = threading.Lock()
        self._opened: tuple[Any, Any] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def hosts(self) -> str:
        return ", ".join(self._settings["bootstrap_servers"])

    def nodes(self) -> list[Node]:
        """Whom to ask about the cluster: the brokers it is known to have, then the servers of the URL, each shuffled."""
        cluster = self._open()[1].cluster
        found: list[Node] = []
        for brokers in (cluster.brokers(), cluster.bootstrap_brokers()):
            names = [broker.node_id for broker in brokers]
            random.shuffle(names)
            found += names
        return found

    def learn(self, metadata: Any, node: Node) -> None:
        """Take the addresses of brokers from what ``node`` has answered to a metadata request."""
        net, manager = self._open()
        manager.cluster.update_metadata(metadata)
        if manager.cluster.is_bootstrap(node) and manager.cluster.brokers():
            # From here on the broker is called by its own id, over a connection of its own.
            with contextlib.suppress(RuntimeError):
                net.call_soon_threadsafe(lambda: manager.close(node_id=node))

    def ask(self, node: Node, make: Callable[[], Any], *, deadline: float) -> Any:
        """The answer of ``node`` to the request that ``make`` makes."""
        pending = self.start(node, make, deadline=deadline)
        self.wait([pending], deadline=deadline)
        return answer_of(pending)

    def start(self, node: Node, make: Callable[[], Any], *, deadline: float) -> Pending:
        """Ask without waiting."""
        return self.run(self.exchange, node, make, deadline)

    def run(self, coroutine: Callable[..., Any], *arguments: Any) -> Pending:
        """Start ``coroutine(*arguments)`` on the thread of the connections."""
        _, manager = self._open()
        try:
            pending = manager.call_soon(coroutine, *arguments)
        except Exception as error:
            if not self._closed:
                self._drop()
            raise closed() if self._closed else Trouble(error) from error
        pending.add_both(self._notify)
        return pending

    def wait(self, pending: Sequence[Pending], *, deadline: float) -> None:
        """Return when all are done. Raises `Trouble` at the deadline, and when the link is closed."""
        began = time.monotonic()
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._closed or all(one.is_done for one in pending), max(0.0, deadline - began) + _GRACE
            )
        if self._closed:
            raise closed()
        if not done:
            raise late(time.monotonic() - began)

    def pause(self, seconds: float) -> None:
        """Sleep, but not on after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    async def exchange(self, node: Node, make: Callable[[], Any], deadline: float) -> Any:
        """`ask`, for coroutines on the thread of the connections. Raises errors of the client library."""
        net, manager = self._open()
        if (delay := manager.connection_delay(node)) > 0:
            await net.sleep(min(delay, _left(deadline)))
        if self._encryption is not None:
            self._encryption.renew()
        connection = manager.get_connection(node, timeout_ms=1_000 * _left(deadline), refresh_metadata_on_err=False)
        await connection
        while connection.paused and not connection.closed:
            await net.sleep(min(_FULL_PAUSE, _left(deadline)))
        return await connection.send_request(make(), request_timeout_ms=1_000 * _left(deadline))

    async def sleep(self, seconds: float) -> None:
        """For the same coroutines."""
        await self._open()[0].sleep(seconds)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._drop()

    def _open(self) -> tuple[Any, Any]:
        with self._opening:
            if self._closed:
                raise closed()
            if self._opened is None:
                _silence()
                transports.use_them()
                settings = dict(self._settings)
                if settings["security_protocol"].endswith("SSL"):
                    self._encryption = Encryption(self._options)
                    settings["ssl_context"] = self._encryption.context
                net = NetworkSelector(**settings)
                manager = KafkaConnectionManager(net, **settings)
                net.start()
                self._opened = (net, manager)
            return self._opened

    def _drop(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            net, manager = opened
            # A thread that looks up a name cannot be interrupted; it is a daemon and ends by itself.
            with contextlib.suppress(RuntimeError, errors.KafkaError):
                net.call_soon_threadsafe(manager.close)
                net.stop(timeout_ms=500)
                net.close()

    def _notify(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()


def answer_of(pending: Pending) -> Any:
    """The answer, once it is there. Raises `Trouble`."""
    if pending.exception is not None:
        raise Trouble(pending.exception) from pending.exception
    return pending.value


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise errors.KafkaTimeoutError("no answer before the deadline")
    return left


def _silence() -> None:
    """Its errors reach the caller as ours; its debug log would show passwords."""
    log = logging.getLogger("kafka")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)
