"""`PubsubBroker`: topics and subscriptions of a project."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_log
from brokers.pubsub.administration import create_topics, delete_subscriptions, ensure_subscriptions
from brokers.pubsub.batches import MAX_MESSAGE_BYTES
from brokers.pubsub.channels import Channels
from brokers.pubsub.connection import Connection
from brokers.pubsub.names import subscriptions_of, topic_of
from brokers.pubsub.options import Target
from brokers.pubsub.publisher import PubsubPublisher
from brokers.pubsub.reader import PubsubReader

_NOTES = "a group gets what is published after its first poll, or after keep: its subscription begins there"
_EMULATOR = "; an emulator keeps everything in memory and forgets it when it ends"


class PubsubBroker:
    """A project of Google Cloud Pub/Sub, or an emulator's."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channels = Channels(target)

    @property
    def url(self) -> str:
        return self._target.url

    @property
    def capabilities(self) -> Capabilities:
        emulated = self._target.emulated
        return Capabilities(
            log=False,
            creates_topics=self._target.options.create,
            durable=not emulated,
            max_message_bytes=MAX_MESSAGE_BYTES,
            notes=_NOTES + (_EMULATOR if emulated else ""),
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:  # noqa: ARG002
        """Make a topic. It has no partitions: any number is as many. Raises `BrokerUnavailable` and `BrokerRefused`."""
        wanted = topic_of(self._target.project, topic)
        with closing(Connection(self._channels)) as connection:
            create_topics(connection, [wanted], deadline=time.monotonic() + timeout)

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Make the group's subscriptions, with their topics if need be. Raises `BrokerUnavailable` and `BrokerRefused`."""
        wanted = subscriptions_of(self._target.project, topics, group)
        with closing(Connection(self._channels)) as connection:
            ensure_subscriptions(connection, wanted, self._target.options, deadline=time.monotonic() + timeout)

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Delete the group's subscriptions. Raises `BrokerUnavailable` and `BrokerRefused`."""
        unwanted = subscriptions_of(self._target.project, topics, group)
        with closing(Connection(self._channels)) as connection:
            delete_subscriptions(connection, unwanted, deadline=time.monotonic() + timeout)

    def publisher(self) -> Publisher:
        return PubsubPublisher(self._channels)

    def log_reader(self) -> LogReader:
        raise not_a_log(self.url)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        return PubsubReader(self._channels, topics, group=group)
