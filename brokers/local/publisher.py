"""Appending to partitions: one transaction, and so one fsync, for all messages of a call that go to one partition."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Final

from brokers.contract import Message
from brokers.errors import BrokerError, PublishError, not_stored
from brokers.local.ages import STEP, Ages
from brokers.local.failures import describe
from brokers.local.files import OpenPartitions
from brokers.local.layout import Layout
from brokers.local.partition import Retention, State
from brokers.partitioning import partition_of
from schemas.errors import ConfigurationError, IoTCloudError
from schemas.topics import check_topic
from telemetry.logs import logger

#: Seconds between looks at what is too old, per partition.
_LOOK_EVERY: Final = 1.0
#: Deleting waits until a partition is this share over its bytes, so that its own fsync is rare.
_SLACK: Final = 16
#: A call that appends N records deletes at most this and 2 N: it stays short, and retention always catches up.
_DELETE_AT_LEAST: Final = 1_000


class LocalPublisher:
    """See `brokers.contract.Publisher`."""

    def __init__(
        self,
        layout: Layout,
        *,
        partitions: int,
        max_message_bytes: int,
        retention: Retention,
        ages: Ages,
    ) -> None:
        self._layout = layout
        self._new_partitions = partitions
        self._max_message_bytes = max_message_bytes
        self._retention = retention
        self._ages = ages
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._files = OpenPartitions(layout, self._closing)
        self._counts: dict[str, tuple[int, int]] = {}
        self._look_at: dict[tuple[str, int], float] = {}
        self._ahead: set[tuple[str, int]] = set()
        self._log = logger("local", broker=layout.url)

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        failures: dict[int, IoTCloudError] = {}
        refused: dict[int, IoTCloudError] = {}
        with self._lock:
            for (topic, partition), members in self._grouped(messages, deadline, failures, refused).items():
                try:
                    self._append(topic, partition, [messages[index] for index in members], deadline)
                except (BrokerError, sqlite3.Error, OSError) as error:
                    reason = error if isinstance(error, BrokerError) else describe(self._layout, topic, partition, error)
                    failures.update(dict.fromkeys(members, reason))
                    self._files.forget(topic, partition)
        if failures or refused:
            raise not_stored(len(messages), failures, refused)

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._files.close()

    def _grouped(
        self,
        messages: Sequence[Message],
        deadline: float,
        failures: dict[int, IoTCloudError],
        refused: dict[int, IoTCloudError],
    ) -> dict[tuple[str, int], list[int]]:
        """Positions in ``messages`` by partition, in order; those that cannot be sent go to the other two."""
        groups: dict[tuple[str, int], list[int]] = {}
        counts: dict[str, int | IoTCloudError] = {}
        for index, message in enumerate(messages):
            if len(message.value) > self._max_message_bytes:
                refused[index] = PublishError(
                    f"{self._layout.url}: topic {message.topic!r}: a message of {len(message.value)} bytes is too large,"
                    f" {self._max_message_bytes} are allowed",
                    unacknowledged=(index,),
                    remedy="raise max_message_bytes in the URL",
                )
                continue
            count = counts.get(message.topic)
            if count is None:
                count = counts[message.topic] = self._count(message.topic, deadline)
            if isinstance(count, ConfigurationError):
                refused[index] = count
            elif isinstance(count, IoTCloudError):
                failures[index] = count
            else:
                groups.setdefault((message.topic, partition_of(message.key, count)), []).append(index)
        return groups

    def _count(self, topic: str, deadline: float) -> int | IoTCloudError:
        """How many partitions the topic has, made if it has none; or why this cannot be known."""
        try:
            check_topic(topic)
            # The folder's time changes when a partition is added: as long as it has not, there is no need to look.
            folder = self._layout.path(topic, 0).parent
            changed = folder.stat().st_mtime_ns if folder.exists() else None
            known = self._counts.get(topic)
            if known is not None and known[0] == changed:
                return known[1]
            count = self._layout.count(topic) or self._layout.create(
                topic, self._new_partitions, deadline=deadline, closing=self._closing
            )
            if changed is not None:
                self._counts[topic] = (changed, count)
            return count
        except (BrokerError, ConfigurationError) as error:
            return error
        except (sqlite3.Error, OSError) as error:
            return describe(self._layout, topic, 0, error)

    def _append(self, topic: str, partition: int, messages: Sequence[Message], deadline: float) -> None:
        if self._closing.is_set():
            raise TimeoutError("the publisher is closed")
        file = self._files.get(topic, partition, deadline=deadline)
        if file is None:
            raise FileNotFoundError(2, "is gone", str(self._layout.path(topic, partition)))
        now, ages_known = self._ages.look()
        state = file.append([(message.key.encode(), message.value) for message in messages], now=now, deadline=deadline)
        self._warn((topic, partition), state.last_time - now)
        retention = self._retention if ages_known else self._retention._replace(age=0)
        if self._overdue((topic, partition), state):
            try:
                file.trim(retention, now=now, most=_DELETE_AT_LEAST + 2 * len(messages), deadline=time.monotonic() + 0.1)
            except (sqlite3.Error, TimeoutError):
                # The messages are on disk; what is too old goes after a later call.
                self._files.forget(topic, partition)

    def _warn(self, place: tuple[str, int], ahead: int) -> None:
        """Say once that append times, which never fall, are of a clock that was ahead (µs)."""
        if ahead <= STEP:
            self._ahead.discard(place)
        elif place not in self._ahead:
            self._ahead.add(place)
            topic, partition = place
            self._log.warning(
                "records were appended by a clock that was ahead: those to come get the same time until it is reached",
                topic=topic,
                partition=partition,
                seconds=ahead // 1_000_000,
            )

    def _overdue(self, place: tuple[str, int], state: State) -> bool:
        limit, age = self._retention
        if limit and state.next_position - state.begin_position > limit + limit // _SLACK:
            return True
        if not age or time.monotonic() < self._look_at.get(place, 0.0):
            return False
        self._look_at[place] = time.monotonic() + _LOOK_EVERY
        return True
