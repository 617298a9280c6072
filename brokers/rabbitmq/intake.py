"""What a link brings in: a channel and a consumer for each topic, and one buffer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]

from brokers.contract import Delivery
from brokers.rabbitmq.failures import LinkFailed
from brokers.rabbitmq.link import Channel, Link
from brokers.rabbitmq.options import RabbitOptions
from brokers.rabbitmq.topology import Topology, unclaimed_queue

#: With these a server answers who consumes a queue that somebody else has to himself, or that is gone.
_NOT_TO_BE_HAD: Final = (403, 404)
_PATIENCE: Final = 10.0


class Tag(NamedTuple):
    """The tag of a delivery."""

    source: Source
    number: int


class Source:
    """One topic: its channel, and what has been handed out of it."""

    def __init__(self, channel: Channel, topic: str, prefetch: int) -> None:
        self.channel = channel
        self.topic = topic
        self._prefetch = prefetch
        #: Numbers of deliveries handed out and not settled, in order.
        self.open: dict[int, None] = {}

    def acknowledge(self, numbers: set[int], deadline: float) -> None:
        """Return when the server has taken note. Raises `LinkFailed` and `TimeoutError`."""
        numbers &= self.open.keys()
        through = 0
        for number in list(self.open):
            if number not in numbers:
                break
            through = number
        single = sorted(number for number in numbers if number > through)

        def send() -> None:
            if through:
                self.channel.raw.basic_ack(through, multiple=True)
            for number in single:
                self.channel.raw.basic_ack(number)

        self._settle(send, numbers, deadline)

    def reject(self, numbers: set[int], deadline: float) -> None:
        """Return when the server has taken note. Raises `LinkFailed` and `TimeoutError`."""
        numbers &= self.open.keys()

        def send() -> None:
            # The last first: each goes to the front of the queue, or back to its place.
            for number in sorted(numbers, reverse=True):
                self.channel.raw.basic_nack(number, requeue=True)

        self._settle(send, numbers, deadline)

    def _settle(self, send: Callable[[], None], numbers: set[int], deadline: float) -> None:
        self.channel.link.run(send)
        # Acknowledgements have no answer. A channel works things off in order: once it answers this, they are done.
        self.channel.ask("basic_qos", deadline, prefetch_count=self._prefetch)
        for number in numbers:
            del self.open[number]


class Intake:
    """Deliveries as they come in; the server stops at ``prefetch`` unacknowledged ones for each topic."""

    def __init__(self, link: Link, options: RabbitOptions, group: str) -> None:
        self.link = link
        self._options = options
        self._group = group
        self._topology = Topology(link, options)
        self._buffer: deque[Delivery] = deque()
        #: Topics of which older messages, from before any group came, are read first; and the group's queue for each.
        self.claiming: dict[Source, str] = {}

    def subscribe(self, topic: str, deadline: float) -> None:
        """Have the group's queue, and begin to read. Raises `LinkFailed` and `TimeoutError`."""
        queue = self._topology.group(self._group, topic, deadline)
        unclaimed = unclaimed_queue(topic)
        if self._topology.waiting(unclaimed, deadline):
            source = self._source(topic, deadline)
            source.channel.trial = True
            try:
                # Alone, so that order holds and no other group gets a part of it.
                self._consume(source, unclaimed, deadline, exclusive=True)
            except LinkFailed as error:
                cause = error.cause
                if not isinstance(cause, ChannelClosedByBroker) or cause.reply_code not in _NOT_TO_BE_HAD:
                    raise
            else:
                source.channel.trial = False
                self.claiming[source] = queue
                return
        self._consume(self._source(topic, deadline), queue, deadline)

    def take(self, most: int) -> list[Delivery]:
        """What has come in. Raises `LinkFailed`: the server delivers it again."""
        if self.link.failed:
            self.link.wait(lambda: False, time.monotonic())
        if not self._buffer and self.claiming:
            self._look(time.monotonic() + _PATIENCE)
        found = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        for delivery in found:
            tag = delivery.tag
            assert isinstance(tag, Tag)
            tag.source.open[tag.number] = None
        return found

    def wait(self, seconds: float) -> None:
        """Return when something is there, or after ``seconds``. Raises `LinkFailed`."""
        try:
            self.link.wait(lambda: bool(self._buffer), time.monotonic() + seconds)
        except TimeoutError:
            return

    def _look(self, deadline: float) -> None:
        """Begin with the group's own queues where nothing older is left."""
        for source, queue in list(self.claiming.items()):
            if not self._topology.waiting(unclaimed_queue(source.topic), deadline):
                self._consume(source, queue, deadline)
                del self.claiming[source]

    def _source(self, topic: str, deadline: float) -> Source:
        channel = self.link.channel(deadline)
        channel.ask("basic_qos", deadline, prefetch_count=self._options.prefetch)
        # A queue that is deleted ends the link, and the next one makes it again.
        gone = LookupError(f"the queue of topic {topic!r} was deleted")
        self.link.run(lambda: channel.raw.add_on_cancel_callback(lambda _: self.link.fail(gone)))
        return Source(channel, topic, self._options.prefetch)

    def _consume(self, source: Source, queue: str, deadline: float, *, exclusive: bool = False) -> None:
        def deliver(_: Any, method: Any, properties: Any, body: bytes) -> None:
            key = (properties.headers or {}).get("key", "")
            text = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
            tag = Tag(source, method.delivery_tag)
            self._buffer.append(Delivery(source.topic, text, body, tag, bool(method.redelivered)))
            self.link.changed()

        source.channel.ask("basic_consume", deadline, queue=queue, on_message_callback=deliver, exclusive=exclusive)
