"""One connection to the server, made when it is first used."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.api_core.gapic_v1 import routing_header
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from brokers.errors import BrokerUnavailable
from brokers.pubsub.channels import Channels

#: What the result of a call raises that failed, or that was given up here.
CALL_FAILED: Final = (grpc.RpcError, grpc.FutureCancelledError)

_to_metadata: Any = routing_header.to_grpc_metadata  # untyped


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of the service. They do not repeat themselves: a client that repeats knows what has been stored."""

    channel: Any
    publisher: PublisherGrpcTransport
    subscriber: SubscriberGrpcTransport


class Connection:
    """A channel of its own, and a new one after `drop`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._lock = threading.Lock()
        self._calls: Calls | None = None
        self._closed = False
        self.url = channels.target.url

    def calls(self) -> Calls:
        """Raises `BrokerUnavailable` when it is closed, and what `Channels.open` raises."""
        current = self._calls
        if current is not None:
            return current
        # Not under the lock: finding credentials may take seconds, and `close` does not wait for it.
        channel = self._channels.open()
        made = Calls(channel, PublisherGrpcTransport(channel=channel), SubscriberGrpcTransport(channel=channel))
        with self._lock:
            current = self._calls
            if current is None and not self._closed:
                self._calls = made
                return made
        channel.close()
        if current is None:
            raise self._closed_error()
        return current

    def start(self, method: Any, request: Any, *, resource: tuple[str, str], deadline: float) -> Any:
        """The future of a call. ``resource`` is the field of the request that names it, for the service to route by.

        Raises `BrokerUnavailable` when the connection is closed. The result of the future raises one of `CALL_FAILED`.
        """
        try:
            return method.future(request, timeout=max(0.0, deadline - time.monotonic()), metadata=_routing(resource))
        except ValueError as error:
            raise self._closed_error() from error

    def stream(self, method: Any, requests: Iterator[Any], *, resource: tuple[str, str]) -> Any:
        """A call in which both sides go on talking: iterate over its responses. Raises as `start` and its result do."""
        try:
            return method(requests, metadata=_routing(resource))
        except ValueError as error:
            raise self._closed_error() from error

    def drop(self) -> None:
        """Give the connection up; the next call makes another. What is in flight ends with an error."""
        with self._lock:
            calls, self._calls = self._calls, None
        if calls is not None:
            calls.channel.close()

    def close(self) -> None:
        self._closed = True
        self.drop()

    def _closed_error(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self.url}: closed", remedy="open it again")


def _routing(resource: tuple[str, str]) -> tuple[tuple[str, str]]:
    return (_to_metadata((resource,)),)
