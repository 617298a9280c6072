"""Publishing: all keys of a call at once, each in its order, until the service has given every message its id."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.pubsub_v1.types import PublishRequest

from brokers.contract import Message
from brokers.errors import BrokerError, BrokerUnavailable, PublishError
from brokers.pubsub.administration import create_topics
from brokers.pubsub.batches import Lane, lanes_of
from brokers.pubsub.channels import Channels
from brokers.pubsub.connection import CALL_FAILED, Connection
from brokers.pubsub.failures import code_of, describe
from schemas.errors import IoTCloudError

#: Requests on their way at once, each of them of another key.
_IN_FLIGHT: Final = 100
_GRACE: Final = 5.0


class PubsubPublisher:
    """See `brokers.contract.Publisher`."""

    def __init__(self, channels: Channels) -> None:
        self._target = channels.target
        self._connection = Connection(channels)

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        """See `brokers.contract.Publisher.publish`. A topic that is missing is made, unless the URL says ``create=false``."""
        call = _Call(self._connection, create=self._target.options.create, deadline=time.monotonic() + timeout)
        lanes = lanes_of(self._target.project, messages, call.refused, url=self._target.url)
        try:
            call.send(lanes)
        except IoTCloudError as error:
            for lane in lanes:
                call.failed.update(dict.fromkeys(lane.waiting(), error))
        if any(isinstance(error, BrokerUnavailable) for error in call.failed.values()):
            self._connection.drop()
        if call.failed or call.refused:
            raise _publish_error(messages, call)

    def close(self) -> None:
        self._connection.close()


class _Call:
    """One call of `publish`: what is in flight, and what has become of the rest."""

    def __init__(self, connection: Connection, *, create: bool, deadline: float) -> None:
        self._connection = connection
        self._create = create
        self._deadline = deadline
        self._created: set[str] = set()
        self._done: queue.SimpleQueue[tuple[Lane, Any]] = queue.SimpleQueue()
        self._in_flight: dict[int, Any] = {}
        #: Reasons by position: of those that may be published again, and of those that never will be taken.
        self.failed: dict[int, IoTCloudError] = {}
        self.refused: dict[int, IoTCloudError] = {}

    def send(self, lanes: Sequence[Lane]) -> None:
        """Return when every batch is answered or given up. Raises what `Connection.calls` raises, with nothing sent."""
        method = self._connection.calls().publisher.publish
        waiting = deque(lanes)
        while True:
            while waiting and len(self._in_flight) < _IN_FLIGHT:
                self._start(method, waiting.popleft())
            if not self._in_flight:
                return
            lane, future = self._next()
            del self._in_flight[id(lane)]
            self._settle(lane, future)
            if lane.batches:
                waiting.append(lane)

    def _next(self) -> tuple[Lane, Any]:
        # gRPC ends every call at its deadline: more than some patience beyond it is a fault of its own.
        try:
            return self._done.get(timeout=max(0.0, self._deadline - time.monotonic()) + _GRACE)
        except queue.Empty:
            raise BrokerUnavailable(f"{self._connection.url}: no answer at the deadline", remedy="publish again") from None

    def _start(self, method: Any, lane: Lane) -> None:
        try:
            future = self._connection.start(
                method,
                PublishRequest.wrap(lane.batches[0].request),
                resource=("topic", lane.topic.path),
                deadline=self._deadline,
            )
        except BrokerError as error:
            self._give_up(lane, error)
            return
        self._in_flight[id(lane)] = future
        future.add_done_callback(lambda done: self._done.put((lane, done)))

    def _settle(self, lane: Lane, future: Any) -> None:
        """Take from the lane what is done with; what stays in it is to be sent."""
        try:
            future.result()
            lane.batches.popleft()
        except CALL_FAILED as error:
            code = code_of(error)
            reason = describe(error, url=self._connection.url, what=f"topic {lane.topic.name!r}")
            if code is grpc.StatusCode.NOT_FOUND and self._create and not lane.topic_made:
                self._make_topic(lane)
            elif code is grpc.StatusCode.INVALID_ARGUMENT and len(lane.batches[0].positions) > 1:
                lane.split()
            elif code is grpc.StatusCode.INVALID_ARGUMENT:
                self.refused[lane.batches.popleft().positions[0]] = reason
            else:
                self._give_up(lane, reason)

    def _make_topic(self, lane: Lane) -> None:
        try:
            if lane.topic.path not in self._created:
                create_topics(self._connection, [lane.topic], deadline=self._deadline)
            self._created.add(lane.topic.path)
            lane.topic_made = True
        except BrokerError as error:
            self._give_up(lane, error)

    def _give_up(self, lane: Lane, reason: IoTCloudError) -> None:
        self.failed.update(dict.fromkeys(lane.waiting(), reason))
        lane.batches.clear()


def _publish_error(messages: Sequence[Message], call: _Call) -> PublishError:
    unacknowledged = tuple(sorted({*call.failed, *call.refused}))
    position, reason = next(iter((call.failed or call.refused).items()))
    topic = messages[position].topic
    # What went wrong before anything was sent, with credentials say, names no topic.
    text = reason.message if topic in reason.message else f"{reason.message}: topic {topic!r}"
    return PublishError(
        f"{len(unacknowledged)} of {len(messages)} messages not stored: {text}",
        unacknowledged=unacknowledged,
        refused=tuple(sorted(call.refused)),
        remedy=reason.remedy,
    )
