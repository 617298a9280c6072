"""Fetching: one request for the partition that is read and, with it, for the others of its node that are read in turn.

So a reader of many partitions asks once for all, and what has come for one is kept while others are read.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka.protocol.consumer import FetchRequest  # type: ignore[import-untyped]

from brokers.kafka.cluster import Cluster
from brokers.kafka.failures import Trouble, trouble_of
from brokers.kafka.link import Node, Pending, answer_of
from brokers.kafka.shelf import Shelf
from brokers.positions import Place

#: Bytes that a partition is asked for at once, and all partitions of a request together.
_PARTITION_BYTES: Final = 2 << 20
_ANSWER_BYTES: Final = 16 << 20
#: Bytes held undecoded beyond which nothing is fetched but what is being waited for.
_HELD_BYTES: Final = 32 << 20
#: Seconds that a server waits for records at most before it says that there are none.
_LONGEST_WAIT: Final = 5.0
#: Seconds without a read after which what is held of a partition is let go.
_FORGET_AFTER: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Fetch:
    pending: Pending
    shelves: Sequence[Shelf]


class Fetching:
    """The shelves of a reader, and the fetches on their way to fill them. Methods raise `Trouble`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._shelves: dict[Place, Shelf] = {}
        self._fetches: list[_Fetch] = []

    def shelf(self, place: Place, offset: int) -> Shelf:
        """The shelf of a partition for a reader whose next offset is ``offset``, with what has come meanwhile."""
        self._collect()
        shelf = self._shelves.get(place)
        if shelf is None or shelf.next != offset:
            shelf = self._shelves[place] = Shelf(place, offset)
        shelf.read_at = time.monotonic()
        return shelf

    def fill(self, shelf: Shelf, *, wait: float, deadline: float) -> bool:
        """Wait for one answer about the partition. False while there is no such partition.

        The server waits up to ``wait`` seconds for records. The answer may be that there are none.
        """
        if shelf.fetch is None and shelf.trouble is None and not self._start(shelf, min(wait, _LONGEST_WAIT), deadline):
            return False
        if shelf.fetch is not None:
            self._cluster.link.wait([shelf.fetch.pending], deadline=deadline)
            self._collect()
        trouble, shelf.trouble = shelf.trouble, None
        if trouble is not None:
            raise trouble
        return True

    def ahead(self, shelf: Shelf, *, deadline: float) -> None:
        """Fetch what comes next while the caller works, if there is more, and anything for the other partitions."""
        if shelf.more and shelf.wants and self._cluster.known_leader(*shelf.place) is not None:
            with contextlib.suppress(Trouble):  # comes again when the partition is read
                self._start(shelf, 0.0, deadline)

    def _start(self, shelf: Shelf, wait: float, deadline: float) -> bool:
        node = self._cluster.leader(*shelf.place, deadline=deadline)
        if node is None:
            return False
        shelves = [shelf, *self._others(shelf, node)]
        request = _request(shelves, wait)
        pending = self._cluster.link.start(node, lambda: request, deadline=deadline)
        fetch = _Fetch(pending, shelves)
        self._fetches.append(fetch)
        for one in shelves:
            one.fetch = fetch
            one.empty_at = 0.0
        return True

    def _others(self, shelf: Shelf, node: Node) -> list[Shelf]:
        """Those that are read in turn with ``shelf`` and have room."""
        now = time.monotonic()
        for old in [one for one in self._shelves.values() if now - one.read_at > _FORGET_AFTER and one is not shelf]:
            del self._shelves[old.place]
        if sum(one.held for one in self._shelves.values()) > _HELD_BYTES:
            return []
        return [
            one
            for one in self._shelves.values()
            if one is not shelf and one.wants and self._cluster.known_leader(*one.place) == node
        ]

    def _collect(self) -> None:
        """Put the answers that have come on their shelves."""
        done = [fetch for fetch in self._fetches if fetch.pending.is_done]
        if not done:
            return
        self._fetches = [fetch for fetch in self._fetches if fetch not in done]
        for fetch in done:
            try:
                answer = answer_of(fetch.pending)
                results, failed = _results(answer), trouble_of(answer.error_code)
            except Trouble as trouble:
                results, failed = {}, trouble
            for shelf in fetch.shelves:
                shelf.fetch = None
                self._put(shelf, results.get(shelf.place), failed)

    @staticmethod
    def _put(shelf: Shelf, result: Any, failed: Trouble | None) -> None:
        shelf.trouble = failed or trouble_of(result.error_code if result is not None else -1)
        if shelf.trouble is None:
            shelf.put(bytes(result.records or b""), end=result.high_watermark, now=time.monotonic())


def _request(shelves: Sequence[Shelf], wait: float) -> Any:
    kind = FetchRequest.FetchTopic
    by_topic: dict[str, list[Any]] = defaultdict(list)
    for shelf in shelves:
        topic, partition = shelf.place
        by_topic[topic].append(
            kind.FetchPartition(
                partition=partition,
                current_leader_epoch=-1,
                fetch_offset=shelf.fetch_from,
                last_fetched_epoch=-1,
                partition_max_bytes=_PARTITION_BYTES,
            )
        )
    # Without a session of fetches: its epoch is -1. From version 13 on topics are named by ids.
    return FetchRequest(
        max_wait_ms=int(1_000 * wait),
        min_bytes=1,
        max_bytes=_ANSWER_BYTES,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[kind(topic=topic, partitions=partitions) for topic, partitions in by_topic.items()],
        forgotten_topics_data=[],
        rack_id="",
        min_version=4,
        max_version=12,
    )


def _results(answer: Any) -> dict[Place, Any]:
    return {(topic.topic, one.partition_index): one for topic in answer.responses for one in topic.partitions}
