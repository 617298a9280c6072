"""What becomes of the messages of one call of `publish`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from brokers.contract import Message
from brokers.errors import PublishError
from brokers.mqtt.failures import NO_SUBSCRIBERS, Failure, about, not_published
from brokers.mqtt.names import KEY, mqtt_topic
from brokers.mqtt.options import Target
from schemas.errors import ConfigurationError

#: A PUBLISH packet is at most so many bytes longer than topic, key and value: its own head (1 + 4), the lengths of the topic
#: and of the properties (2 + 3), the packet id (2), and of the user property identifier, lengths and name (5 + 3).
_HEAD: Final = 17 + len(KEY)
#: The longest string there is (1.5.4).
_LONGEST: Final = 65_535


class Call:
    """Messages by their position: to send, on their way, not published, never to be published."""

    def __init__(self, target: Target, messages: Sequence[Message]) -> None:
        self._target = target
        self._messages = messages
        self._failed: dict[int, Failure] = {}
        self._refused: dict[int, Failure] = {}
        self._on_way: dict[int, int] = {}
        #: Topics of which the server has turned a message down that it may take later, and why.
        self.barred: dict[str, Failure] = {}
        #: Bytes of values on their way.
        self.bytes = 0
        #: Topics of messages that no session subscribed to.
        self.unheard: set[str] = set()

    @property
    def on_way(self) -> int:
        return len(self._on_way)

    def to_send(self, maximum_packet_size: int | None) -> list[int]:
        """Positions of the messages that a server can take which takes such packets; the others are refused."""
        topics: dict[str, Failure | None] = {}
        for index, message in enumerate(self._messages):
            if message.topic not in topics:
                topics[message.topic] = _wrong_topic(message.topic)
            if failure := topics[message.topic] or self._unfit(message, maximum_packet_size):
                self._refused[index] = failure
        return [index for index in range(len(self._messages)) if index not in self._refused]

    def sent(self, index: int, packet_id: int) -> None:
        self._on_way[packet_id] = index
        self.bytes += len(self._messages[index].value)

    def answered(self, packet_id: int, code: int) -> None:
        """The PUBACK of a message; one of a call that was interrupted is passed over."""
        index = self._on_way.pop(packet_id, None)
        if index is None:
            return
        message = self._messages[index]
        self.bytes -= len(message.value)
        if code == NO_SUBSCRIBERS:
            self.unheard.add(message.topic)
        if failure := not_published(code, message.topic, require_subscriber=self._target.options.require_subscriber):
            (self._refused if failure.final else self._failed)[index] = failure
            if not failure.final:
                self.barred.setdefault(message.topic, failure)

    def fail(self, indexes: Iterable[int], failure: Failure) -> None:
        """Count these as not published, whatever was answered; what was turned down before keeps its own reason."""
        for index in indexes:
            if index not in self._refused:
                self._failed.setdefault(index, self.barred.get(self._messages[index].topic, failure))

    def error(self) -> PublishError | None:
        """What to raise, if anything."""
        if not self._failed and not self._refused:
            return None
        self._fail_followers()
        first = next(iter((self._refused or self.barred or self._failed).values()))
        unacknowledged = sorted({*self._failed, *self._refused})
        topics = [self._messages[index].topic for index in unacknowledged]
        return PublishError(
            f"{about(self._target.shown, topics)}: {len(unacknowledged)} of {len(self._messages)} messages not published:"
            f" {first.reason}",
            unacknowledged=tuple(unacknowledged),
            refused=tuple(sorted(self._refused)),
            remedy=first.remedy,
        )

    def _fail_followers(self) -> None:
        """What follows a failed message of its key counts as failed too: published again alone, that one would come after it."""
        failed: dict[tuple[str, str], Failure] = {}
        for index, message in enumerate(self._messages):
            place = (message.topic, message.key)
            if index in self._failed:
                failed.setdefault(place, self._failed[index])
            elif index not in self._refused and place in failed:
                self._failed[index] = failed[place]

    def _unfit(self, message: Message, maximum_packet_size: int | None) -> Failure | None:
        allowed = self._target.options.max_message_bytes
        if len(message.value) > allowed:
            return Failure(
                f"a message of {len(message.value)} bytes is too large, {allowed} are allowed",
                "raise max_message_bytes in the URL",
                final=True,
            )
        try:
            key = len(message.key.encode())
        except UnicodeEncodeError:
            key = _LONGEST + 1
        if key > _LONGEST or "\0" in message.key:
            return Failure("a key must be at most 65535 bytes of UTF-8 without NUL", "choose other keys", final=True)
        size = _HEAD + len(message.topic) + key + len(message.value)
        if maximum_packet_size is not None and size > maximum_packet_size:
            return Failure(
                f"a packet of {size} bytes is too large, the server takes {maximum_packet_size}",
                "raise its maximum packet size (mosquitto: max_packet_size)",
                final=True,
            )
        return None


def _wrong_topic(topic: str) -> Failure | None:
    try:
        mqtt_topic(topic)
    except ConfigurationError as error:
        return Failure(error.message, error.remedy, final=True)
    return None
