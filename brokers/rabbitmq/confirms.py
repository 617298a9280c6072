"""A channel on which the server confirms what it has stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import pika  # type: ignore[import-untyped]

from brokers.rabbitmq.kept import Kept
from brokers.rabbitmq.link import Channel
from brokers.rabbitmq.sending import Sending
from brokers.rabbitmq.topology import EXCHANGE

#: Messages, and bytes of them, that are sent and not confirmed at any time.
_WINDOW: Final = 2_000
_WINDOW_BYTES: Final = 16 << 20
_PERSISTENT: Final = 2


class Confirms:
    """Sends messages ahead of their confirmations.

    A link begins with a single message: a server that is short of memory or disk reads no more from a connection once it
    has got one, and what is left in the network then is stored later, beside its repetition.
    """

    def __init__(self, channel: Channel, deadline: float, *, kept: Kept, refuse: bool, unread: Callable[[str], None]) -> None:
        """What goes to no queue comes back if it is of a topic that is ``kept``, or in any case with ``refuse``; otherwise
        ``unread`` is called with a topic of which that is so.

        Raises `LinkFailed` and `TimeoutError`.
        """
        self.channel = channel
        self._kept = kept
        self._refuse = refuse
        self._unread = unread
        self._topics: set[str] = set()
        self._tag = 0
        #: Of the messages in flight, in order: delivery tag, position among the messages of the call, bytes.
        self._in_flight: deque[tuple[int, int, int]] = deque()
        self._bytes = 0
        self._window = 1
        self._sending = Sending((), ())
        channel.link.run(lambda: channel.raw.add_on_return_callback(self._on_return))
        channel.ask("confirm_delivery", deadline, ack_nack_callback=self._on_answer)

    def send(self, sending: Sending, deadline: float) -> None:
        """Return when all is answered. Raises `LinkFailed` and `TimeoutError`; the channel must not be used after that."""
        self._sending = sending
        self.channel.link.run(self._fill)
        self.channel.link.wait(lambda: sending.done, deadline)

    def _fill(self) -> None:
        sending = self._sending
        while len(self._in_flight) < self._window and not self.channel.link.failed and (index := sending.next()) is not None:
            message = sending.messages[index]
            size = len(message.value)
            if self._in_flight and self._bytes + size > _WINDOW_BYTES:
                break
            self._tag += 1
            sending.sent()
            self._in_flight.append((self._tag, index, size))
            self._bytes += size
            self.channel.raw.basic_publish(
                EXCHANGE,
                message.topic,
                message.value,
                pika.BasicProperties(delivery_mode=_PERSISTENT, headers={"key": message.key}),
                # What goes to no queue comes back as a whole: asking for that once for each topic is enough to warn.
                self._refuse or message.topic not in self._topics or message.topic in self._kept,
            )
            self._topics.add(message.topic)

    def _on_answer(self, frame: Any) -> None:
        method = frame.method
        stored = isinstance(method, pika.spec.Basic.Ack)
        if method.multiple:
            while self._in_flight and self._in_flight[0][0] <= method.delivery_tag:
                self._answered(self._in_flight.popleft(), stored=stored)
        else:
            # Answers come out of order only when they are for different queues: the one meant is near the front.
            for place, flying in enumerate(self._in_flight):
                if flying[0] == method.delivery_tag:
                    del self._in_flight[place]
                    self._answered(flying, stored=stored)
                    break
        self._window = _WINDOW
        self._fill()
        if self._sending.done:
            self.channel.link.changed()

    def _answered(self, flying: tuple[int, int, int], *, stored: bool) -> None:
        self._bytes -= flying[2]
        self._sending.answer(flying[1], stored=stored)

    def _on_return(self, _: Any, method: Any, __: Any, ___: bytes) -> None:
        if self._refuse or method.routing_key in self._kept:
            self._sending.returned.add(method.routing_key)
        else:
            self._unread(method.routing_key)
