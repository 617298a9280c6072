"""Moving messages from topics of one broker into the same topics of another, each at least once and unchanged.

The order of work is the guarantee: read, publish, wait until the target has taken responsibility, acknowledge.
Whoever dies in between moves some messages again. Order per key holds: a batch is published whole before the
next one is read. In memory there is one batch.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from brokers.backoff import Backoff
from brokers.contract import Broker, Delivery, Message, Publisher, QueueReader
from brokers.errors import BrokerRefused, BrokerUnavailable, PublishError
from brokers.positions import Positions
from brokers.subscription import MAX_BYTES, LogSubscription, subscribe
from schemas.errors import ConfigurationError, FrameError
from schemas.frame import first_times
from telemetry.logs import logger

MAX_MESSAGES: Final = 1_000
_POLL_SECONDS: Final = 0.5
_PUBLISH_SECONDS: Final = 30.0
#: Seconds without a message after which a source counts as having nothing more.
IDLE_SECONDS: Final = 1.5
#: Seconds between measurements of the lag, each with a line of log when something was moved.
_MEASURE_EVERY: Final = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What a forwarder has done since it was made."""

    messages: int = 0
    bytes: int = 0
    #: Messages left out because the target will never take them.
    refused: int = 0
    #: Attempts that failed and were made again.
    retries: int = 0
    #: Records of a log that were not moved yet; None for a queue, which does not say.
    lag: int | None = None
    #: How long ago the gateway accepted the event that was moved last, in seconds; 0 when all was moved, None before any was.
    lag_seconds: float | None = None
    connected: bool = False
    #: The source has nothing more at the moment.
    idle: bool = False


class Forwarder:
    """Moves ``topics`` of ``source`` to ``target`` until told to stop.

    ``positions`` are where it is in a log. A message that the target refuses for good (too large, say) ends
    `run` with `BrokerRefused`, unless ``skip_refused``: then it is counted, logged and left out.
    """

    def __init__(
        self,
        source: Broker,
        topics: Sequence[str],
        target: Broker,
        *,
        group: str,
        positions: Positions | None = None,
        skip_refused: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not target.capabilities.log:
            raise ConfigurationError(f"{target.url} is a queue, not a log", remedy="relay into local:DIR or a Kafka cluster")
        if source.url == target.url:
            raise ConfigurationError(f"{target.url} is both source and target", remedy="name another log as target")
        self._source = source
        self._topics = topics
        self._target = target
        self._group = group
        self._positions = positions
        self._skip_refused = skip_refused
        self._clock = clock
        self._backoff = Backoff()
        self._batch = MAX_MESSAGES
        self._measure_at = 0.0
        self._told = 0
        self._log = logger("relay", source=source.url, target=target.url)
        self.source_url = source.url
        self.progress = Progress()

    def run(self, stopping: threading.Event, finishing: threading.Event | None = None) -> None:
        """Move messages until ``stopping`` is set; the batch in hand is then finished or left unacknowledged.

        Once ``finishing`` is set it ends by itself as soon as nothing has come for `IDLE_SECONDS`. A broker that is
        away is tried again without end, because the source keeps what is waiting. Raises `BrokerRefused` and
        `ConfigurationError`.
        """
        while not stopping.is_set():
            try:
                self._move(stopping, finishing or threading.Event())
                break
            except BrokerUnavailable as error:
                self._pause(error, stopping)
        self.progress = replace(self.progress, connected=False, idle=False)

    def _move(self, stopping: threading.Event, finishing: threading.Event) -> None:
        """Move until told to stop, or finished. Raises `BrokerUnavailable` when the source is away."""
        reader = subscribe(self._source, self._topics, group=self._group, positions=self._positions, start="beginning")
        publisher = self._target.publisher()
        try:
            since = time.monotonic()
            while not stopping.is_set():
                deliveries = reader.poll(max_messages=self._batch, timeout=_POLL_SECONDS)
                if not deliveries:
                    idle = time.monotonic() - since >= IDLE_SECONDS
                    if idle and finishing.is_set():
                        return
                    self.progress = replace(
                        self.progress, connected=True, idle=idle, lag_seconds=0.0 if idle else self.progress.lag_seconds
                    )
                else:
                    since = time.monotonic()
                    if not self._publish(publisher, deliveries, stopping):
                        return
                    reader.acknowledge(deliveries)
                    self._count(deliveries)
                    self._backoff.reset()
                self._measure(reader)
        finally:
            publisher.close()
            reader.close()

    def _publish(self, publisher: Publisher, deliveries: Sequence[Delivery], stopping: threading.Event) -> bool:
        """Whether all are in the target; false when told to stop while it is away."""
        pending = [Message(delivery.topic, delivery.key, delivery.value) for delivery in deliveries]
        while True:
            try:
                publisher.publish(pending, timeout=_PUBLISH_SECONDS)
                return True
            except PublishError as error:
                if error.refused:
                    self._refuse(pending, error)
                pending = [pending[index] for index in error.unacknowledged if index not in set(error.refused)]
                if not pending:
                    return True
                self._pause(error, stopping)
            except BrokerUnavailable as error:
                self._pause(error, stopping)
            if stopping.is_set():
                return False

    def _refuse(self, pending: Sequence[Message], error: PublishError) -> None:
        if not self._skip_refused:
            raise BrokerRefused(
                error.message, remedy=f"{error.remedy}; or leave such messages out with --skip-refused".lstrip("; ")
            ) from error
        for index in error.refused:
            message = pending[index]
            self._log.error(
                "left out: refused", topic=message.topic, key=message.key, bytes=len(message.value), why=error.message
            )
        self.progress = replace(self.progress, refused=self.progress.refused + len(error.refused))

    def _pause(self, error: PublishError | BrokerUnavailable, stopping: threading.Event) -> None:
        seconds = self._backoff.next()
        self._log.warning("trying again", why=error.message, remedy=error.remedy, seconds=round(seconds, 2))
        self.progress = replace(self.progress, retries=self.progress.retries + 1, connected=False, idle=False)
        stopping.wait(seconds)

    def _count(self, deliveries: Sequence[Delivery]) -> None:
        size = sum(len(delivery.value) for delivery in deliveries)
        self.progress = replace(
            self.progress,
            connected=True,
            idle=False,
            messages=self.progress.messages + len(deliveries),
            bytes=self.progress.bytes + size,
            lag_seconds=self._age(deliveries[-1].value),
        )
        # A queue bounds a poll by its count alone; with the size of the last batch this bounds its bytes.
        self._batch = max(1, min(MAX_MESSAGES, MAX_BYTES * len(deliveries) // max(1, size)))

    def _age(self, frame: bytes) -> float | None:
        """Seconds since the gateway accepted the first event of ``frame``; None for what is no frame of events."""
        try:
            accepted, _ = first_times(frame)
        except FrameError:
            return None
        return max(0.0, self._clock() - accepted / 1e6)

    def _measure(self, reader: QueueReader) -> None:
        if time.monotonic() < self._measure_at:
            return
        self._measure_at = time.monotonic() + _MEASURE_EVERY
        if isinstance(reader, LogSubscription):
            # One partition that cannot be asked does not hold up the others.
            with contextlib.suppress(BrokerUnavailable):
                self.progress = replace(self.progress, lag=reader.lag())
        if self.progress.messages != self._told:
            self._told = self.progress.messages
            progress = self.progress
            self._log.info(
                "moved", messages=progress.messages, bytes=progress.bytes, lag=progress.lag, lag_seconds=progress.lag_seconds
            )
