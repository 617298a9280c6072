"""Reading: a streaming pull for every topic, and leases that are kept while the caller works."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import grpc

from brokers.contract import Delivery
from brokers.errors import BrokerError, BrokerRefused, BrokerUnavailable
from brokers.pubsub.administration import ensure_subscriptions
from brokers.pubsub.channels import Channels
from brokers.pubsub.connection import Connection
from brokers.pubsub.failures import code_of, describe
from brokers.pubsub.held import Held, Lease
from brokers.pubsub.leases import LeaseKeeper, acknowledge, extend
from brokers.pubsub.names import subscriptions_of
from brokers.pubsub.stream import Stream
from telemetry.logs import logger

#: Seconds an answer may take where the caller gave no time, or less.
_PATIENCE: Final = 5.0
#: Seconds that closing waits for what is on its way, and then for what is given back.
_FAREWELL: Final = 0.4
#: Streams on one connection: the service allows 100.
_STREAMS: Final = 50


class PubsubReader:
    """See `brokers.contract.QueueReader`."""

    def __init__(self, channels: Channels, topics: Sequence[str], *, group: str) -> None:
        target = channels.target
        self._url = target.url
        self._options = target.options
        self._subscriptions = subscriptions_of(target.project, topics, group)
        self._connections = [Connection(channels) for _ in range(0, max(1, len(self._subscriptions)), _STREAMS)]
        #: The one for everything but streams.
        self._connection = self._connections[0]
        self._held = Held(self._options.max_outstanding, self._options.max_outstanding_bytes)
        self._keeper = LeaseKeeper(self._connection, self._held, seconds=round(self._options.ack_deadline))
        self._streams: list[Stream] = []
        self._closing = threading.Event()
        self._log = logger("pubsub", broker=self._url, group=group)

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`.

        The first one makes the subscriptions, and may take longer than ``timeout`` for it. Returns nothing new while
        ``max_outstanding`` are not acknowledged. Raises `BrokerUnavailable` and `BrokerRefused`.
        """
        until = time.monotonic() + timeout
        reconnected = False
        while not self._closing.is_set():
            if not self._streams:
                self._connect(max(until, time.monotonic() + _PATIENCE))
            if found := self._held.take(max_messages, until):
                return found
            ended = next((stream for stream in self._streams if stream.ended), None)
            if ended is None:
                if time.monotonic() >= until:
                    break
                continue
            failure = self._failure(ended)
            self._disconnect()
            # The service ends streams now and then: once, that is not worth an error.
            if reconnected or (isinstance(failure, BrokerRefused) and not self._made_again(ended)):
                raise failure
            self._log.info("connecting again", reason=failure.message)
            reconnected = True
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `brokers.contract.QueueReader.acknowledge`.

        That it will never come again is promised by exactly-once subscriptions alone. Raises `BrokerUnavailable`.
        """
        failure = acknowledge(self._connection, self._held, _leases(deliveries), deadline=time.monotonic() + _PATIENCE)
        if failure is None:
            return
        what = f"acknowledging {_topics(deliveries)}"
        if code_of(failure) is grpc.StatusCode.FAILED_PRECONDITION:
            raise BrokerUnavailable(
                f"{self._url}: {what}: their leases had ended, so that some come again",
                remedy="raise ack_deadline, if this happens often",
            )
        raise describe(failure, url=self._url, what=what)

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Give these back. What was received after them of the same keys is given back as well, to keep the order."""
        leases = self._held.give_back(deliveries)
        failure = extend(self._connection, leases, 0, deadline=time.monotonic() + _PATIENCE)
        if failure is not None:
            raise describe(failure, url=self._url, what=f"giving back {_topics(deliveries)}")

    def close(self) -> None:
        """Everything that is held is given back, as far as that succeeds at once; the rest when its lease ends."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._keeper.stop()
        self._held.close()
        until = time.monotonic() + _FAREWELL
        for stream in self._streams:
            stream.finish()
        for stream in self._streams:
            stream.join(max(0.0, until - time.monotonic()))
        if leases := self._held.leases():
            try:
                extend(self._connection, leases, 0, deadline=time.monotonic() + _FAREWELL)
            except BrokerError:
                self._log.info("could not give back what was held", deliveries=len(leases))
        for connection in self._connections:
            connection.close()

    def _connect(self, deadline: float) -> None:
        try:
            ensure_subscriptions(self._connection, self._subscriptions, self._options, deadline=deadline)
            for number, subscription in enumerate(self._subscriptions):
                connection = self._connections[number // _STREAMS]
                stream = Stream(connection, subscription, self._held, self._options)
                self._streams.append(stream)
                stream.start()
        except BrokerError:
            self._disconnect()
            raise
        if not self._keeper.is_alive() and not self._closing.is_set():
            self._keeper.start()

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.drop()
        for stream in self._streams:
            stream.finish()
        self._streams = []

    def _failure(self, ended: Stream) -> BrokerError:
        what = f"topic {ended.topic!r}"
        if ended.failure is None:
            return BrokerUnavailable(f"{self._url}: {what}: the server ended the stream", remedy="poll again")
        return describe(ended.failure, url=self._url, what=what)

    def _made_again(self, ended: Stream) -> bool:
        """Whether it failed because the subscription is gone, which is made when connecting."""
        missing = ended.failure is not None and code_of(ended.failure) is grpc.StatusCode.NOT_FOUND
        return missing and self._options.create


def _leases(deliveries: Sequence[Delivery]) -> list[Lease]:
    for delivery in deliveries:
        if not isinstance(delivery.tag, Lease):
            raise TypeError(f"not a delivery of this reader: {delivery.tag!r}")
    return [delivery.tag for delivery in deliveries if isinstance(delivery.tag, Lease)]


def _topics(deliveries: Sequence[Delivery]) -> str:
    return "deliveries of " + ", ".join(sorted({delivery.topic for delivery in deliveries}))
