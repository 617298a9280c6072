"""Where groups say they are, sent to the cluster without anybody waiting: tools show it, nothing relies on it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from functools import partial
from typing import Any, Final

from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.protocol.consumer import OffsetCommitRequest  # type: ignore[import-untyped]
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest  # type: ignore[import-untyped]

from brokers.kafka.failures import Trouble
from brokers.kafka.link import Link, Node, Pending
from brokers.positions import Place

#: Seconds for finding the group's coordinator and telling it.
_PATIENCE: Final = 15.0
_LOOK_EVERY: Final = 0.1


class Commits:
    """One request per group on its way at a time; of what is noted meanwhile only the newest is sent."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[Place, int]] = {}
        self._busy: dict[str, Pending] = {}

    def note(self, group: str, place: Place, offset: int) -> None:
        """Given up without an error when the cluster cannot be reached."""
        with self._lock:
            self._waiting.setdefault(group, {})[place] = offset
            if group in self._busy:
                return
            with contextlib.suppress(Trouble):
                self._busy[group] = self._link.run(self._tell_all, group)

    def finish(self, seconds: float) -> None:
        """Wait that long for what was noted last."""
        with self._lock:
            busy = list(self._busy.values())
        with contextlib.suppress(Trouble):
            self._link.wait(busy, deadline=time.monotonic() + seconds)

    async def _tell_all(self, group: str) -> None:
        try:
            while offsets := self._next(group):
                deadline = time.monotonic() + _PATIENCE
                with contextlib.suppress(KafkaError, Trouble, OSError):
                    coordinator = await self._coordinator(group, deadline)
                    await self._link.exchange(coordinator, partial(_commit, group, offsets), deadline)
        except BaseException:
            # The connections were dropped, and this with them.
            with self._lock:
                self._busy.pop(group, None)
            raise

    def _next(self, group: str) -> dict[Place, int] | None:
        """What is to be told now; once there is nothing, the next `note` begins anew."""
        with self._lock:
            offsets = self._waiting.pop(group, None)
            if offsets is None:
                self._busy.pop(group, None)
            return offsets

    async def _coordinator(self, group: str, deadline: float) -> Node:
        """The node that keeps the offsets of a group. A cluster that never had a group takes a moment to name one."""
        while True:
            asked = self._link.nodes()[0]
            found = await self._link.exchange(asked, partial(_find, group), deadline)
            node: Node = found.coordinators[0].node_id if found.API_VERSION >= 4 else found.node_id
            if node in self._link.nodes():
                return node
            self._link.learn(await self._link.exchange(asked, _brokers, deadline), asked)
            await self._link.sleep(_LOOK_EVERY)


def _find(group: str) -> Any:
    return FindCoordinatorRequest(key=group, key_type=0, coordinator_keys=[group])


def _brokers() -> Any:
    return MetadataRequest(topics=[], allow_auto_topic_creation=False)


def _commit(group: str, offsets: dict[Place, int]) -> Any:
    kind = OffsetCommitRequest.OffsetCommitRequestTopic
    by_topic: dict[str, list[Any]] = defaultdict(list)
    for (topic, partition), offset in offsets.items():
        by_topic[topic].append(
            kind.OffsetCommitRequestPartition(
                partition_index=partition, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=""
            )
        )
    # Without a member: whoever keeps its positions by itself is no member of the group.
    return OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=-1,
        member_id="",
        group_instance_id=None,
        topics=[kind(name=topic, partitions=partitions) for topic, partitions in by_topic.items()],
        max_version=8,
    )
