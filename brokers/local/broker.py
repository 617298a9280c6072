"""`LocalBroker`: topics in a directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_queue
from brokers.local.ages import Ages, elapsed_clock
from brokers.local.layout import Layout
from brokers.local.partition import Retention
from brokers.local.publisher import LocalPublisher
from brokers.local.reader import LocalReader
from settings import Bytes, Seconds


def wall_clock() -> int:
    """µs since 1970, UTC."""
    return time.time_ns() // 1_000


class LocalOptions(msgspec.Struct, frozen=True):
    """What a ``local:`` URL may say after its ``?``. Zero means no limit for the two of retention."""

    #: How many partitions a topic gets when it is first published to.
    partitions: int = 1
    #: Bytes of values and keys kept per partition.
    retention_bytes: Bytes = Bytes(0)
    #: Seconds a record is kept at least.
    retention_age: Seconds = Seconds(0)
    max_message_bytes: Bytes = Bytes(16_000_000)

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 1024:
            raise ValueError(f"partitions must be 1 to 1024, not {self.partitions}")


class LocalBroker:
    """A log of SQLite files below ``directory``. ``clock`` gives append times in µs since 1970, UTC.

    ``elapsed`` gives seconds, and is never set: by it the clock is found to be.
    """

    def __init__(
        self,
        directory: Path | str,
        options: LocalOptions | None = None,
        *,
        url: str = "",
        clock: Callable[[], int] = wall_clock,
        elapsed: Callable[[], float] = elapsed_clock,
    ) -> None:
        self._options = options or LocalOptions()
        self._url = url or f"local:{directory}"
        self._layout = Layout(Path(directory), self._url)
        self._ages = Ages(clock, elapsed, hold=self._options.retention_age, url=self._url)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=True,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._options.max_message_bytes,
            notes="embedded: for the processes of one machine, on a local disk; not a network server",
        )

    def topics(self) -> list[str]:
        """The topics there are, sorted."""
        return self._layout.topics()

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:
        """Make a topic, or add the partitions it lacks. Raises `BrokerUnavailable` when the directory cannot be written."""
        self._layout.create(topic, partitions, deadline=time.monotonic() + timeout)

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """A log keeps everything for everyone."""

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """Positions are their readers' own."""

    def publisher(self) -> Publisher:
        options = self._options
        return LocalPublisher(
            self._layout,
            partitions=options.partitions,
            max_message_bytes=options.max_message_bytes,
            retention=Retention(options.retention_bytes, round(options.retention_age * 1e6)),
            ages=self._ages,
        )

    def log_reader(self) -> LogReader:
        return LocalReader(self._layout)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:  # noqa: ARG002
        raise not_a_queue(self.url)
