"""Topics, their partitions and who leads them; making both."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from kafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest  # type: ignore[import-untyped]
from kafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from brokers.backoff import Backoff
from brokers.kafka.failures import Trouble, late, trouble_of
from brokers.kafka.link import Link, Node

T = TypeVar("T")

UNKNOWN_TOPIC: Final = 3
_TOPIC_EXISTS: Final = 36
_INVALID_PARTITIONS: Final = 37
#: The server's default for a topic's max.message.bytes, and what a batch of one message has around it.
_SERVER_DEFAULT: Final = 1_000_000
_OVERHEAD: Final = 65_536
#: Attempts at a cluster whose connections fail, for those who do not wait for it.
_ATTEMPTS: Final = 4


class Cluster:
    """What is known of a cluster. Methods raise `Trouble`; deadlines are of `time.monotonic`."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._leaders: dict[str, dict[int, Node]] = {}
        self._looked: dict[str, float] = {}

    def leaders(self, topic: str, *, deadline: float, oldest: float = float("inf")) -> dict[int, Node]:
        """The node that leads each partition, -1 for none at the moment; empty while the topic does not exist.

        Asks the cluster when what is known is older than ``oldest`` seconds, or was forgotten.
        """
        if topic not in self._leaders or time.monotonic() - self._looked[topic] > oldest:
            self._look(topic, deadline)
        return self._leaders[topic]

    def leader(self, topic: str, partition: int, *, deadline: float) -> Node | None:
        """None while there is no such partition. Raises `Trouble` that passes while it has no leader."""
        leaders = self.leaders(topic, deadline=deadline)
        if partition not in leaders:
            leaders = self.leaders(topic, deadline=deadline, oldest=0.0)
        node = leaders.get(partition)
        if node == -1:
            self.forget(topic)
            raise _must(trouble_of(5))
        return node

    def known_leader(self, topic: str, partition: int) -> Node | None:
        """The leader, if it is known without asking."""
        return self._leaders.get(topic, {}).get(partition)

    def forget(self, topic: str) -> None:
        """Ask again when next needed: what is known has proved wrong."""
        self._leaders.pop(topic, None)

    def create(self, topic: str, partitions: int, *, replication: int, max_message_bytes: int, deadline: float) -> None:
        """Make a topic, or add the partitions it lacks, and wait until all have leaders."""
        began = time.monotonic()
        seen = -1
        while True:
            leaders = self.leaders(topic, deadline=deadline, oldest=0.0)
            if len(leaders) >= partitions and -1 not in leaders.values():
                return
            # A broker hears of what was made a moment later: the same is not asked for twice.
            if len(leaders) not in (seen, partitions):
                seen = len(leaders)
                if leaders:
                    self._extend(topic, partitions, deadline)
                else:
                    self._make(topic, partitions, replication, max_message_bytes, deadline)
            elif time.monotonic() > deadline:
                raise late(deadline - began)
            else:
                self.link.pause(0.02)

    def patiently(self, topic: str, attempt: Callable[[], T], *, deadline: float, persistent: bool = False) -> T:
        """``attempt``, again after trouble that may pass.

        Connections that fail are given up after some attempts, unless ``persistent``: who reads polls again by itself.
        """
        backoff = Backoff(0.05, 1.0)
        failures = 0
        while True:
            try:
                return attempt()
            except Trouble as trouble:
                failures += not trouble.answered
                patient = persistent or failures < _ATTEMPTS
                pause = backoff.next()
                if trouble.final or self.link.closed or not patient or time.monotonic() + pause > deadline:
                    raise
                self.forget(topic)
                self.link.pause(pause)

    def _look(self, topic: str, deadline: float) -> None:
        answer, node = self.ask_any(lambda: MetadataRequest(topics=[_named(topic)], allow_auto_topic_creation=False), deadline)
        self.link.learn(answer, node)
        (found,) = answer.topics
        if found.error_code not in (0, UNKNOWN_TOPIC):
            raise _must(trouble_of(found.error_code))
        self._leaders[topic] = {one.partition_index: one.leader_id for one in found.partitions}
        self._looked[topic] = time.monotonic()

    def ask_any(self, make: Callable[[], Any], deadline: float) -> tuple[Any, Node]:
        """The answer of whichever node gives one first, each in its turn and with its share of the time; and that node."""
        nodes = self.link.nodes()
        trouble: Trouble | None = None
        for number, node in enumerate(nodes):
            share = (deadline - time.monotonic()) / (len(nodes) - number)
            try:
                return self.link.ask(node, make, deadline=time.monotonic() + share), node
            except Trouble as error:
                if error.final or self.link.closed:
                    raise
                trouble = error
        raise _must(trouble)

    def _make(self, topic: str, partitions: int, replication: int, max_message_bytes: int, deadline: float) -> None:
        kind = CreateTopicsRequest.CreatableTopic
        settings = {"message.timestamp.type": "LogAppendTime"}
        if max_message_bytes > _SERVER_DEFAULT:
            settings["max.message.bytes"] = str(max_message_bytes + _OVERHEAD)
        wanted = kind(
            name=topic,
            num_partitions=partitions,
            replication_factor=replication or -1,
            assignments=[],
            configs=[kind.CreatableTopicConfig(name=name, value=value) for name, value in settings.items()],
        )
        milliseconds = _milliseconds(deadline)
        answer, _ = self.ask_any(
            lambda: CreateTopicsRequest(topics=[wanted], timeout_ms=milliseconds, validate_only=False), deadline
        )
        self._settle(answer.topics[0], _TOPIC_EXISTS)

    def _extend(self, topic: str, partitions: int, deadline: float) -> None:
        wanted = CreatePartitionsRequest.CreatePartitionsTopic(name=topic, count=partitions, assignments=None)
        milliseconds = _milliseconds(deadline)
        answer, _ = self.ask_any(
            lambda: CreatePartitionsRequest(topics=[wanted], timeout_ms=milliseconds, validate_only=False), deadline
        )
        self._settle(answer.results[0], _INVALID_PARTITIONS)

    @staticmethod
    def _settle(result: Any, harmless: int) -> None:
        # Somebody else did the same at the same time: that is what was wanted.
        if result.error_code != harmless and (trouble := trouble_of(result.error_code, result.error_message)):
            raise trouble


def _named(topic: str) -> Any:
    return MetadataRequest.MetadataRequestTopic(name=topic)


def _milliseconds(deadline: float) -> int:
    return max(1, int(1_000 * (deadline - time.monotonic())))


def _must(trouble: Trouble | None) -> Trouble:
    assert trouble is not None
    return trouble
