"""`SpoolBroker`: topics below a directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader
from iotcloud_spool.directory import LockedTopic, Spool
from iotcloud_spool.publisher import SpoolPublisher
from iotcloud_spool.reader import SpoolReader
from schemas.errors import ConfigurationError
from settings import Bytes


class SpoolOptions(msgspec.Struct, frozen=True):
    """What a ``spool:`` URL may say after its ``?``."""

    max_message_bytes: Bytes = Bytes(16_000_000)
    #: Deliveries that a reader may hold before it gets no more.
    max_outstanding: int = 1_000

    def __post_init__(self) -> None:
        if self.max_outstanding < 1:
            raise ValueError(f"max_outstanding must be at least 1, not {self.max_outstanding}")


class SpoolBroker:
    """A queue for the processes of one machine."""

    def __init__(self, directory: Path, options: SpoolOptions, *, url: str) -> None:
        self._spool = Spool(directory, url)
        self._options = options

    @property
    def url(self) -> str:
        return self._spool.url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=False,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._options.max_message_bytes,
            notes="for the processes of one machine; a group gets what is published after its first poll, or after keep",
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:  # noqa: ARG002
        """Make a topic; it has no partitions. Raises `BrokerUnavailable`."""
        with self._spool.describing(topic):
            self._spool.topic(topic).create()

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """See that what is published from now on is kept for ``group``. Raises `BrokerUnavailable`."""
        deadline = time.monotonic() + timeout
        for topic in topics:
            with self._locked(topic, deadline) as locked:
                locked.add_group(group)

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Delete what is kept for ``group``. Raises `BrokerUnavailable`."""
        deadline = time.monotonic() + timeout
        for topic in topics:
            with self._locked(topic, deadline) as locked:
                locked.remove_group(group)

    @contextmanager
    def _locked(self, topic: str, deadline: float) -> Iterator[LockedTopic]:
        with self._spool.describing(topic), self._spool.topic(topic).locked(deadline, threading.Event()) as locked:
            yield locked

    def publisher(self) -> Publisher:
        return SpoolPublisher(self._spool, max_message_bytes=self._options.max_message_bytes)

    def log_reader(self) -> LogReader:
        raise ConfigurationError(
            f"{self.url} is a queue and cannot be read again",
            remedy="move its frames into a log with 'iotcloud relay' and read that",
        )

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        return SpoolReader(self._spool, topics, group=group, max_outstanding=self._options.max_outstanding)
