"""Messages of one call, made into requests: one key each, which the service asks for, and within its limits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.pubsub_v1.types import PublishRequest

from brokers.contract import Message
from brokers.errors import BrokerError
from brokers.pubsub.names import Topic, topic_of
from schemas.errors import ConfigurationError, IoTCloudError

#: The service takes requests of 10 MB; the rest is room for key and names (https://cloud.google.com/pubsub/quotas).
MAX_MESSAGE_BYTES: Final = 9_990_000
#: Bytes an attribute's value, and an ordering key, may have.
MAX_KEY_BYTES: Final = 1_024
#: Carries the key: a message with an attribute may be empty, and a key too.
KEY: Final = "key"
_MAX_MESSAGES: Final = 1_000
_ENOUGH_BYTES: Final = 2_000_000

_Request: Any = PublishRequest.pb()


@dataclass(slots=True)
class Batch:
    """A request, and the positions of its messages in the call."""

    request: Any
    positions: list[int] = field(default_factory=list)
    bytes: int = 0


@dataclass(slots=True)
class Lane:
    """The batches of one topic and key. They are sent one after another, so that none overtakes one that failed."""

    topic: Topic
    batches: deque[Batch] = field(default_factory=deque)
    #: Whether its topic was found missing, and made.
    topic_made: bool = False

    def add(self, position: int, message: Message) -> None:
        size = len(message.value) + 3 * len(message.key) + 64
        batch = self.batches[-1] if self.batches else None
        if batch is None or len(batch.positions) >= _MAX_MESSAGES or batch.bytes + size > _ENOUGH_BYTES:
            batch = Batch(_Request(topic=self.topic.path))
            self.batches.append(batch)
        # Without an ordering key there would be no order; the empty key shares that of another, which does no harm.
        batch.request.messages.add(data=message.value, ordering_key=message.key or "-", attributes={KEY: message.key})
        batch.positions.append(position)
        batch.bytes += size

    def split(self) -> None:
        """Make a batch of every message of the first one, so that the one that is to blame can be told."""
        batch = self.batches.popleft()
        alone = [
            Batch(_Request(topic=self.topic.path, messages=[message]), [position])
            for position, message in zip(batch.positions, batch.request.messages, strict=True)
        ]
        self.batches.extendleft(reversed(alone))

    def waiting(self) -> list[int]:
        return [position for batch in self.batches for position in batch.positions]


def lanes_of(project: str, messages: Sequence[Message], refused: dict[int, IoTCloudError], *, url: str) -> list[Lane]:
    """The lanes of a call; messages that the service would never take go to ``refused``, by position."""
    lanes: dict[tuple[str, str], Lane] = {}
    for position, message in enumerate(messages):
        problem = _problem(message, url)
        if problem is not None:
            refused[position] = problem
            continue
        place = (message.topic, message.key)
        lane = lanes.get(place)
        if lane is None:
            try:
                lane = lanes[place] = Lane(topic_of(project, message.topic))
            except ConfigurationError as error:
                refused[position] = error
                continue
        lane.add(position, message)
    return list(lanes.values())


def _problem(message: Message, url: str) -> BrokerError | None:
    if len(message.value) > MAX_MESSAGE_BYTES:
        return BrokerError(
            f"{url}: topic {message.topic!r}: a message of {len(message.value)} bytes is too large,"
            f" Pub/Sub takes {MAX_MESSAGE_BYTES}",
            remedy="send smaller frames",
        )
    if 4 * len(message.key) > MAX_KEY_BYTES and len(message.key.encode()) > MAX_KEY_BYTES:
        return BrokerError(
            f"{url}: topic {message.topic!r}: a key of {len(message.key.encode())} bytes is too long,"
            f" Pub/Sub takes {MAX_KEY_BYTES}",
            remedy="use shorter keys",
        )
    return None
