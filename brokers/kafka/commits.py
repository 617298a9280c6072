"""Where groups say they are, sent to the cluster without anybody waiting: tools show it, nothing relies on it."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from typing import Any, Final

from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.protocol.consumer import OffsetCommitRequest  # type: ignore[import-untyped]
from kafka.protocol.metadata import FindCoordinatorRequest  # type: ignore[import-untyped]

from brokers.kafka.failures import Trouble
from brokers.kafka.link import Link, Node, Pending
from brokers.positions import Place

#: Seconds for finding the group's coordinator and telling it.
_PATIENCE: Final = 5.0


class Commits:
    """One request per group on its way at a time; of what is noted meanwhile only the newest is sent."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[str, dict[Place, int]] = defaultdict(dict)
        self._sent: dict[str, Pending] = {}

    def note(self, group: str, place: Place, offset: int) -> None:
        """Given up without an error when the cluster cannot be reached."""
        self._waiting[group][place] = offset
        self._send(group)

    def finish(self, seconds: float) -> None:
        """Wait that long for what was noted last."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(Trouble):
            for _ in range(2):  # what is on its way, and what waits behind it
                for group in list(self._waiting):
                    self._send(group)
                self._link.wait([one for one in list(self._sent.values()) if not one.is_done], deadline=deadline)

    def _send(self, group: str) -> None:
        before = self._sent.get(group)
        if not self._waiting[group] or (before is not None and not before.is_done):
            return
        with contextlib.suppress(Trouble):
            self._sent[group] = self._link.run(self._tell, group, self._waiting.pop(group))

    async def _tell(self, group: str, offsets: dict[Place, int]) -> None:
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(KafkaError, Trouble, OSError):
            any_node = self._link.nodes()[0]
            found = await self._link.exchange(any_node, lambda: _find(group), deadline)
            coordinator: Node = found.coordinators[0].node_id if found.API_VERSION >= 4 else found.node_id
            if coordinator != -1:
                await self._link.exchange(coordinator, lambda: _commit(group, offsets), deadline)


def _find(group: str) -> Any:
    return FindCoordinatorRequest(key=group, key_type=0, coordinator_keys=[group])


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
