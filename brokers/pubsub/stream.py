"""A streaming pull: the service sends what comes on one subscription, as long as it is not too much."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any, Final

from google.pubsub_v1.types import StreamingPullRequest, StreamingPullResponse

from brokers.contract import Delivery
from brokers.pubsub.batches import KEY
from brokers.pubsub.connection import CALL_FAILED, Connection
from brokers.pubsub.held import Held, Lease
from brokers.pubsub.names import Subscription
from brokers.pubsub.options import PubsubOptions

#: Seconds between signs of life: the service ends a stream that was silent for 60 s.
_SIGN_OF_LIFE: Final = 30.0


class Stream(threading.Thread):
    """Puts what comes into ``held`` until it has ended; ``failure`` then says why, if it failed, and ``held`` is woken."""

    def __init__(self, connection: Connection, subscription: Subscription, held: Held, options: PubsubOptions) -> None:
        super().__init__(name=f"pubsub-{subscription.topic.name}", daemon=True)
        self.topic = subscription.topic.name
        self.ended = False
        self.failure: BaseException | None = None
        self._path = subscription.path
        self._held = held
        self._options = options
        self._finishing = threading.Event()
        self._call: Any = connection.stream(
            connection.calls().subscriber.streaming_pull, self._requests(), resource=("subscription", subscription.path)
        )

    def run(self) -> None:
        try:
            for response in self._call:
                for received in StreamingPullResponse.pb(response).received_messages:
                    self._put(received)
        except CALL_FAILED as error:
            self.failure = error
        finally:
            self.ended = True
            self._finishing.set()
            self._held.wake()

    def finish(self) -> None:
        """Ask for no more. What is on its way still comes, and then the stream ends."""
        self._finishing.set()
        self._held.wake()

    def _put(self, received: Any) -> None:
        message = received.message
        lease = Lease(self._path, received.ack_id, message.message_id)
        # Another publisher than ours may carry no such attribute.
        key = message.attributes.get(KEY, message.ordering_key)
        # The attempt is counted by the service only where the subscription has a dead-letter topic.
        delivery = Delivery(self.topic, key, message.data, lease, received.delivery_attempt > 1)
        self._held.put(delivery, lease, abandoned=self._finishing.is_set)

    def _requests(self) -> Iterator[StreamingPullRequest]:
        yield StreamingPullRequest(
            subscription=self._path,
            stream_ack_deadline_seconds=round(self._options.ack_deadline),
            client_id=str(uuid.uuid4()),
            max_outstanding_messages=self._options.max_outstanding,
            max_outstanding_bytes=self._options.max_outstanding_bytes,
        )
        while not self._finishing.wait(_SIGN_OF_LIFE):
            yield StreamingPullRequest()
