"""What a link brings in: a channel and a consumer for each topic, and one buffer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from brokers.contract import Delivery
from brokers.rabbitmq.link import Channel, Link
from brokers.rabbitmq.options import RabbitOptions
from brokers.rabbitmq.topology import Topology


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
        self._buffer: deque[Delivery] = deque()
        self._announcing = False

    def subscribe(self, topic: str, deadline: float) -> None:
        """Have the group's queue, and begin to read it. Raises `LinkFailed` and `TimeoutError`."""
        queue = Topology(self.link, self._options).queue(self._group, topic, deadline)
        channel = self.link.channel(deadline)
        source = Source(channel, topic, self._options.prefetch)
        gone = LookupError(f"the queue {queue!r} was deleted")

        def deliver(_: Any, method: Any, properties: Any, body: bytes) -> None:
            key = (properties.headers or {}).get("key", "")
            text = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
            self._buffer.append(Delivery(topic, text, body, Tag(source, method.delivery_tag), bool(method.redelivered)))
            if not self._announcing:
                self._announcing = True
                self.link.run(self._announce)

        channel.ask("basic_qos", deadline, prefetch_count=self._options.prefetch)
        self.link.run(lambda: channel.raw.add_on_cancel_callback(lambda _: self.link.fail(gone)))
        channel.ask("basic_consume", deadline, queue=queue, on_message_callback=deliver)

    def _announce(self) -> None:
        """Wake whoever waits: once for all that came in together, for a thread that wakes costs as much as a message."""
        self._announcing = False
        self.link.changed()

    def take(self, most: int) -> list[Delivery]:
        """What has come in. Raises `LinkFailed`: the server delivers it again."""
        if self.link.failed:
            self.link.wait(lambda: False, time.monotonic())
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
