"""The exchange and the queues: their names, and seeing to it that they are there.

Everything is published to one topic exchange with the name of the topic as routing key. A group has a durable queue for
each of its topics, bound to that exchange.

What is there already is not declared again: that would take the right to configure it, and the very same arguments.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]

from brokers.rabbitmq.failures import LinkFailed
from brokers.rabbitmq.link import Link
from brokers.rabbitmq.options import RabbitOptions

EXCHANGE: Final = "iotcloud"
_ACCESS_REFUSED: Final = 403
_NOT_FOUND: Final = 404
#: Bytes of the name of a queue (AMQP 0-9-1: a short string).
_LONGEST_NAME: Final = 255


def queue_name(group: str, topic: str) -> str:
    """The queue of a group for a topic. A topic has no colon, so that no two become one."""
    name = f"{group}:{topic}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{hashlib.sha256(group.encode()).hexdigest()[:32]}:{topic}"


class Topology:
    """Declares what is missing, on a link. Its methods raise `LinkFailed` and `TimeoutError`."""

    def __init__(self, link: Link, options: RabbitOptions) -> None:
        self._link = link
        self._options = options

    def exchange(self, deadline: float) -> None:
        """Have the exchange."""
        if not self._is_there("exchange_declare", deadline, exchange=EXCHANGE):
            self._ask("exchange_declare", deadline, exchange=EXCHANGE, exchange_type="topic", durable=True)

    def queue(self, group: str, topic: str, deadline: float) -> str:
        """Have a group's queue, to which goes what is published from now on; returns its name."""
        queue = queue_name(group, topic)
        there = self._is_there("queue_declare", deadline, queue=queue)
        if not there:
            self._ask("queue_declare", deadline, queue=queue, durable=True, arguments=self._arguments())
        try:
            # Also when it was there: who declared it may have died before binding it.
            self._ask("queue_bind", deadline, queue=queue, exchange=EXCHANGE, routing_key=topic)
        except LinkFailed as error:
            # Without the right to bind, somebody else has made the queue, and bound it.
            if not there or not _closed_with(error, _ACCESS_REFUSED):
                raise
        return queue

    def delete(self, group: str, topic: str, deadline: float) -> None:
        """Have no queue of that group, whatever is in it."""
        self._ask("queue_delete", deadline, queue=queue_name(group, topic))

    def _arguments(self) -> dict[str, Any]:
        options = self._options
        arguments: dict[str, Any] = {}
        if options.queue_type != "classic":
            arguments["x-queue-type"] = options.queue_type
        if options.single_active_consumer:
            arguments["x-single-active-consumer"] = True
        if options.expires:
            arguments["x-expires"] = round(options.expires * 1_000)
        return arguments

    def _is_there(self, method: str, deadline: float, **names: str) -> bool:
        try:
            self._ask(method, deadline, passive=True, **names)
        except LinkFailed as error:
            if not _closed_with(error, _NOT_FOUND):
                raise
            return False
        return True

    def _ask(self, method: str, deadline: float, **arguments: Any) -> None:
        """On a channel of its own, because the server closes it if it refuses."""
        channel = self._link.channel(deadline, trial=True)
        try:
            channel.ask(method, deadline, **arguments)
        finally:
            channel.close()


def _closed_with(error: LinkFailed, code: int) -> bool:
    return isinstance(error.cause, ChannelClosedByBroker) and error.cause.reply_code == code
