"""pika's `SelectConnection`: confirms for persistent messages in a window; a consumer that acknowledges many at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import pika  # type: ignore[import-untyped]

from benchmarks.contestants.terms import GROUP, KEY, TOGETHER, Clock
from brokers.rabbitmq.topology import EXCHANGE, queue_name
from brokers.url import parse_url

_WINDOW: Final = 2 * TOGETHER


class _Client:
    """An open channel; `run` serves it until `done`."""

    def __init__(self, url: str, ready: Callable[[_Client], None]) -> None:
        parsed = parse_url(url)
        self._ready = ready
        self.channel: Any = None
        host = parsed.hosts[0]
        parameters = pika.ConnectionParameters(
            host.name, host.port, parsed.path or "/", pika.PlainCredentials(parsed.user, parsed.password)
        )
        self._connection = pika.SelectConnection(
            parameters, on_open_callback=self._opened, on_open_error_callback=_fail, on_close_callback=self.done
        )
        self.run()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._has_channel)

    def _has_channel(self, channel: Any) -> None:
        self.channel = channel
        self._ready(self)

    def run(self) -> None:
        self._connection.ioloop.start()
        if not self._connection.is_open:
            raise ConnectionError("the connection was lost")

    def done(self, *_: Any) -> None:
        self._connection.ioloop.stop()

    def close(self) -> None:
        self._connection.close()
        self._connection.ioloop.start()


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    properties = pika.BasicProperties(delivery_mode=2, headers={"key": KEY})
    waiting: Iterator[bytes] = iter(())
    in_flight: deque[int] = deque()
    sent = 0

    def fill() -> None:
        nonlocal sent
        while len(in_flight) < _WINDOW and (frame := next(waiting, None)) is not None:
            sent += 1
            in_flight.append(sent)
            client.channel.basic_publish(EXCHANGE, topic, frame, properties)

    def on_answer(frame: Any) -> None:
        method = frame.method
        if not isinstance(method, pika.spec.Basic.Ack):
            raise TypeError("not stored")
        if method.multiple:
            while in_flight and in_flight[0] <= method.delivery_tag:
                in_flight.popleft()
        else:
            in_flight.remove(method.delivery_tag)
        fill()
        if not in_flight:
            client.done()

    def send(some: Sequence[bytes]) -> None:
        nonlocal waiting
        waiting = iter(some)
        fill()
        client.run()

    client = _Client(url, lambda client: client.channel.confirm_delivery(on_answer, client.done))
    with closing(client):
        send(frames[:1])
        clock = Clock()
        send(frames[1:])
        return clock.rate(len(frames) - 1)


def read(url: str, topic: str, count: int) -> float:
    found = 0

    def on_message(channel: Any, method: Any, _: Any, __: bytes) -> None:
        nonlocal found
        found += 1
        if found % (TOGETHER // 2) == 0 or found == count:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if found == count:
            # Acknowledgements have no answer; what comes after them has.
            channel.basic_qos(prefetch_count=TOGETHER, callback=client.done)

    def consume(client: _Client) -> None:
        client.channel.basic_qos(prefetch_count=TOGETHER)
        client.channel.basic_consume(queue_name(GROUP, topic), on_message)
        client.done()

    clock = Clock()
    client = _Client(url, consume)
    with closing(client):
        if found < count:
            client.run()
        return clock.rate(count)


def _fail(_: Any, error: object) -> None:
    raise ConnectionError(str(error))
