"""Reading partitions by offset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

from kafka.errors import OffsetOutOfRangeError  # type: ignore[import-untyped]
from kafka.protocol.consumer import ListOffsetsRequest  # type: ignore[import-untyped]

from brokers.contract import Record
from brokers.errors import BrokerRefused, BrokerUnavailable, OffsetExpired
from brokers.kafka.batches import Batch
from brokers.kafka.cluster import UNKNOWN_TOPIC, Cluster
from brokers.kafka.commits import Commits
from brokers.kafka.failures import Trouble, closed, trouble_of
from brokers.kafka.fetching import Fetching
from brokers.kafka.link import Link
from brokers.kafka.shelf import Shelf
from telemetry.logs import logger

T = TypeVar("T")

#: Seconds that an answer of the cluster may take, beside the wait for records.
_PATIENCE: Final = 10.0
#: Seconds that "nothing there" holds when it was said together with the answer about another partition.
_FRESH: Final = 0.01
#: Seconds between looks for a topic that does not exist.
_LOOK_EVERY: Final = 0.25
_FIRST: Final = -2
_END: Final = -1


class KafkaReader:
    """See `brokers.contract.LogReader`."""

    def __init__(self, link: Link, *, url: str) -> None:
        self._link = link
        self._url = url
        self._cluster = Cluster(link)
        self._fetching = Fetching(self._cluster)
        self._commits = Commits(link)
        self._warned: set[str] = set()
        self._log = logger("kafka", broker=url)

    def partitions(self, topic: str) -> Sequence[int]:
        return sorted(self._ask(topic, lambda deadline: self._cluster.leaders(topic, deadline=deadline, oldest=0.0)))

    def begin_offset(self, topic: str, partition: int) -> int:
        return max(0, self._offset(topic, partition, _FIRST))

    def end_offset(self, topic: str, partition: int) -> int:
        return max(0, self._offset(topic, partition, _END))

    def offset_for_time(self, topic: str, partition: int, time: int) -> int:
        """See `brokers.contract.LogReader`. Kafka's times are whole milliseconds."""
        found = self._offset(topic, partition, max(0, -(-time // 1_000)))
        return found if found >= 0 else self.end_offset(topic, partition)

    def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int, timeout: float = 0.0
    ) -> Sequence[Record]:
        """See `brokers.contract.LogReader.read`. A damaged batch comes as one record with an empty value."""
        until = time.monotonic() + timeout
        shelf = self._fetching.shelf((topic, partition), offset)
        while not self._link.closed:
            try:
                records, batches = shelf.take(max_records, max_bytes)
                self._look_at(topic, partition, batches)
                if records:
                    self._fetching.ahead(shelf, deadline=time.monotonic() + _PATIENCE)
                    return records
                if not self._wait(shelf, until):
                    break
            except Trouble as trouble:
                if isinstance(trouble.cause, OffsetOutOfRangeError):
                    self._out_of_range(topic, partition, offset)
                    if time.monotonic() >= until:
                        break
                elif not self._link.closed:
                    raise self._explained(trouble, topic) from trouble
        return []

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._commits.note(group, (topic, partition), offset)

    def close(self) -> None:
        if not self._link.closed:
            self._commits.finish(0.3)
        self._link.close()

    def _wait(self, shelf: Shelf, until: float) -> bool:
        """Wait for an answer about a partition that has nothing on its shelf; false when there is no time for it."""
        now = time.monotonic()
        if now >= until and now - shelf.empty_at < _FRESH:
            shelf.empty_at = 0.0
            return False
        topic = shelf.place[0]
        wait = max(0.0, until - now)
        deadline = now + wait + _PATIENCE
        there = self._cluster.patiently(
            topic, lambda: self._fetching.fill(shelf, wait=wait, deadline=deadline), deadline=deadline
        )
        if there:
            # Asked for just now: what the answer says is good for this read, also when it says that there is nothing.
            return True
        if shelf.next > 0:
            self._beyond(*shelf.place, shelf.next, 0)
        left = until - time.monotonic()
        if left > 0:
            self._link.pause(min(_LOOK_EVERY, left))
        return left > 0

    def _offset(self, topic: str, partition: int, wanted: int) -> int:
        """The offset for a time in ms, the first or the end; -1 when there is none."""

        def attempt(deadline: float) -> int:
            node = self._cluster.leader(topic, partition, deadline=deadline)
            if node is None:
                return -1
            answer = self._link.ask(node, lambda: _list_offsets(topic, partition, wanted), deadline=deadline)
            found = answer.topics[0].partitions[0]
            if found.error_code == UNKNOWN_TOPIC:
                self._cluster.forget(topic)
            if trouble := trouble_of(found.error_code):
                raise trouble
            return int(found.offset)

        return self._ask(topic, attempt)

    def _ask(self, topic: str, attempt: Callable[[float], T]) -> T:
        deadline = time.monotonic() + _PATIENCE
        try:
            return self._cluster.patiently(topic, lambda: attempt(deadline), deadline=deadline)
        except Trouble as trouble:
            raise self._explained(trouble, topic) from trouble

    def _out_of_range(self, topic: str, partition: int, offset: int) -> None:
        """Raises `OffsetExpired` or `BrokerRefused`, unless the offset is there after all."""
        begin, end = self.begin_offset(topic, partition), self.end_offset(topic, partition)
        if offset < begin:
            raise OffsetExpired(
                f"{self._url}: topic {topic!r}, partition {partition}: offset {offset} is no longer kept, the first is {begin}",
                begin=begin,
                remedy="go on from there, and raise the retention of the topic or the speed of its reader",
            )
        if offset > end:
            self._beyond(topic, partition, offset, end)

    def _beyond(self, topic: str, partition: int, offset: int, end: int) -> NoReturn:
        raise BrokerRefused(
            f"{self._url}: topic {topic!r}, partition {partition}: offset {offset} is beyond the end, {end}:"
            " the topic has been made anew since the offset was stored",
            remedy="remove the stored position of the reader",
        )

    def _look_at(self, topic: str, partition: int, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if batch.damaged:
                self._log.error("a damaged batch; its records are lost", topic=topic, partition=partition, before=batch.next)
            if not batch.on_server_time and topic not in self._warned:
                self._warned.add(topic)
                self._log.warning(
                    "append times are the publishers' clocks",
                    topic=topic,
                    remedy="kafka-configs.sh --alter --entity-type topics --add-config message.timestamp.type=LogAppendTime",
                )

    def _explained(self, trouble: Trouble, topic: str) -> BrokerUnavailable | BrokerRefused:
        if self._link.closed:
            trouble = closed()
        return trouble.explained(self._url, topic, self._link.hosts)


def _list_offsets(topic: str, partition: int, wanted: int) -> Any:
    kind = ListOffsetsRequest.ListOffsetsTopic
    part = kind.ListOffsetsPartition(partition_index=partition, current_leader_epoch=-1, timestamp=wanted)
    return ListOffsetsRequest(
        replica_id=-1, isolation_level=0, topics=[kind(name=topic, partitions=[part])], timeout_ms=10_000, min_version=1
    )
