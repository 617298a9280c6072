"""Exchanges and queues: their names, and seeing to it that they are there.

Everything is published to one topic exchange with the name of the topic as routing key. A group has a durable queue for
each of its topics, bound to that exchange. What no queue is bound for goes to the alternate exchange and so to the
topic's *unclaimed* queue, which the first group to come empties before its own.

What is there already is not declared again: that would need the right to configure it, and the very same arguments.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]

from brokers.rabbitmq.failures import LinkFailed
from brokers.rabbitmq.link import Channel, Link
from brokers.rabbitmq.options import RabbitOptions

EXCHANGE: Final = "iotcloud"
_UNCLAIMED: Final = "iotcloud.unclaimed"
_NOT_FOUND: Final = 404
#: Bytes of the name of a queue (AMQP 0-9-1: a short string).
_LONGEST_NAME: Final = 255


def group_queue(group: str, topic: str) -> str:
    """The queue of a group for a topic. A topic has no colon, so that no two become one."""
    name = f"{group}:{topic}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{hashlib.sha256(group.encode()).hexdigest()[:32]}:{topic}"


def unclaimed_queue(topic: str) -> str:
    """What was published before any group came. No group has an empty name."""
    return f":{topic}"


class Topology:
    """Declares what is missing, on a link."""

    def __init__(self, link: Link, options: RabbitOptions) -> None:
        self._link = link
        self._options = options

    def exchanges(self, deadline: float) -> None:
        if self._is_there("exchange_declare", deadline, exchange=EXCHANGE):
            return
        alternate = {"alternate-exchange": _UNCLAIMED}
        self._ask("exchange_declare", deadline, exchange=_UNCLAIMED, exchange_type="direct", durable=True)
        self._ask("exchange_declare", deadline, exchange=EXCHANGE, exchange_type="topic", durable=True, arguments=alternate)

    def unclaimed(self, topic: str, deadline: float, *, unbound: bool = False) -> None:
        """The queue for what no group has subscribed to yet. ``unbound``: it may be there, but gets nothing."""
        limit = self._options.unclaimed_bytes
        if not limit:
            return
        queue = unclaimed_queue(topic)
        there = self._is_there("queue_declare", deadline, queue=queue)
        if not there:
            self._declare(queue, {"x-max-length-bytes": limit, "x-overflow": "reject-publish"}, deadline)
        if unbound or not there:
            self._ask("queue_bind", deadline, queue=queue, exchange=_UNCLAIMED, routing_key=topic)

    def group(self, group: str, topic: str, deadline: float) -> str:
        """The name of a group's queue, which has what is published from now on."""
        queue = group_queue(group, topic)
        if not self._is_there("queue_declare", deadline, queue=queue):
            arguments: dict[str, Any] = {}
            if self._options.single_active_consumer:
                arguments["x-single-active-consumer"] = True
            if self._options.expires:
                arguments["x-expires"] = round(self._options.expires * 1_000)
            self._declare(queue, arguments, deadline)
        # Also when it was there: who declared it may have died before binding it.
        self._ask("queue_bind", deadline, queue=queue, exchange=EXCHANGE, routing_key=topic)
        return queue

    def waiting(self, queue: str, deadline: float) -> int:
        """How many messages are ready in a queue; none when it does not exist."""
        found = self._is_there("queue_declare", deadline, queue=queue)
        return found.message_count if found else 0

    def _declare(self, queue: str, arguments: dict[str, Any], deadline: float) -> None:
        if self._options.queue_type != "classic":
            arguments = {**arguments, "x-queue-type": self._options.queue_type}
        self._ask("queue_declare", deadline, queue=queue, durable=True, arguments=arguments)

    def _is_there(self, method: str, deadline: float, **names: str) -> Any:
        """The server's answer about something that exists, or None."""
        try:
            return self._ask(method, deadline, passive=True, **names)
        except LinkFailed as error:
            if isinstance(error.cause, ChannelClosedByBroker) and error.cause.reply_code == _NOT_FOUND:
                return None
            raise

    def _ask(self, method: str, deadline: float, **arguments: Any) -> Any:
        """On a channel of its own, which the server closes if it refuses."""
        channel = trial(self._link, deadline)
        try:
            return channel.ask(method, deadline, **arguments)
        finally:
            channel.close()


def trial(link: Link, deadline: float) -> Channel:
    """A channel on which the server may refuse something without ending the link."""
    channel = link.channel(deadline)
    channel.trial = True
    return channel
