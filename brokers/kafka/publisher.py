"""Publishing: the messages of a call as batches, all partitions at once, until each batch is confirmed by ``acks=all``.

A batch carries its producer's id and a number, so one that was sent again because its answer was lost is stored once.
Of a partition one batch at a time is on its way: after a failure nothing behind it can have overtaken it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kafka import errors  # type: ignore[import-untyped]
from kafka.protocol.producer import ProduceRequest  # type: ignore[import-untyped]

from brokers.backoff import Backoff
from brokers.contract import Message
from brokers.errors import BrokerError, BrokerRefused, not_stored
from brokers.kafka.cluster import UNKNOWN_TOPIC, Cluster
from brokers.kafka.failures import Trouble, closed, late, trouble_of
from brokers.kafka.identity import Identity
from brokers.kafka.lane import Lane
from brokers.kafka.link import Link, Node, Pending, answer_of
from brokers.kafka.options import KafkaOptions
from brokers.partitioning import partition_of
from brokers.positions import Place
from schemas.errors import ConfigurationError
from schemas.topics import check_topic

#: Bytes of a batch of several messages: the servers' own limit is 1,048,588 with what is around it.
_BATCH: Final = 1_000_000
#: Bytes of batches in one request; the servers' limit is 100 MB.
_REQUEST: Final = 8_000_000
#: Seconds after which a server that is silent counts as gone: another may lead its partitions by then.
_ANSWER_SECONDS: Final = 10.0
#: Seconds after which a topic is looked at again, for partitions that were added.
_OLDEST: Final = 30.0

_TOO_LARGE: Final = (10, 18)
#: Too large, no name for a topic, not a record this topic takes.
_NEVER: Final = (*_TOO_LARGE, 17, 87)
_DUPLICATE: Final = 46
#: The server has forgotten this producer, or numbers do not follow.
_UNKNOWN_PRODUCER: Final = (45, 47, 59)

#: A node, and the batches for it.
Request = tuple[Node, list[tuple[Lane, bytes]]]


class KafkaPublisher:
    """See `brokers.contract.Publisher`."""

    def __init__(self, link: Link, options: KafkaOptions, *, url: str) -> None:
        self._link = link
        self._options = options
        self._url = url
        self._cluster = Cluster(link)
        self._identity = Identity(self._cluster)
        self._checked: set[str] = set()

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        failures: dict[int, BrokerError] = {}
        refused: dict[int, BrokerError] = {}
        by_topic: dict[str, list[int]] = defaultdict(list)
        for position, message in enumerate(messages):
            if (reason := self._refusal(message)) is not None:
                refused[position] = reason
            else:
                by_topic[message.topic].append(position)
        lanes: list[Lane] = []
        for topic, positions in by_topic.items():
            try:
                lanes += self._lanes(topic, messages, positions, deadline)
            except Trouble as trouble:
                bad = refused if isinstance(trouble.cause, errors.InvalidTopicError) else failures
                bad.update(dict.fromkeys(positions, self._explained(trouble, topic)))
        self._send(lanes, refused, deadline)
        for lane in lanes:
            if left := lane.left():
                failures.update(dict.fromkeys(left, self._explained(lane.trouble or late(timeout), lane.place[0])))
        if failures or refused:
            raise not_stored(len(messages), failures, refused)

    def close(self) -> None:
        self._link.close()

    def _refusal(self, message: Message) -> BrokerError | None:
        """Why a message can never be published, if so."""
        where = f"{self._url}: topic {message.topic!r}"
        if len(message.value) > self._options.max_message_bytes:
            return BrokerRefused(
                f"{where}: a message of {len(message.value)} bytes is too large, {self._options.max_message_bytes} are allowed",
                remedy="raise max_message_bytes in the URL, and max.message.bytes of topics that are there",
            )
        if message.topic not in self._checked:
            try:
                check_topic(message.topic)
            except ConfigurationError as error:
                return BrokerRefused(f"{where}: {error.message}", remedy=error.remedy)
            self._checked.add(message.topic)
        return None

    def _lanes(self, topic: str, messages: Sequence[Message], positions: Sequence[int], deadline: float) -> list[Lane]:
        """Raises `Trouble` when the topic's partitions cannot be known or made."""
        count = self._cluster.patiently(topic, lambda: self._count(topic, deadline), deadline=deadline, persistent=True)
        by_partition: dict[int, list[int]] = defaultdict(list)
        partitions: dict[str, int] = {}
        for position in positions:
            key = messages[position].key
            partition = partitions.get(key)
            if partition is None:
                partition = partitions[key] = partition_of(key, count)
            by_partition[partition].append(position)
        largest = min(_BATCH, self._options.max_message_bytes)
        return [Lane((topic, partition), messages, mine, largest=largest) for partition, mine in by_partition.items()]

    def _count(self, topic: str, deadline: float) -> int:
        leaders = self._cluster.leaders(topic, deadline=deadline, oldest=_OLDEST)
        if not leaders:
            options = self._options
            self._cluster.create(
                topic,
                options.partitions,
                replication=options.replication,
                max_message_bytes=options.max_message_bytes,
                deadline=deadline,
            )
            leaders = self._cluster.leaders(topic, deadline=deadline)
        return len(leaders)

    def _send(self, lanes: Sequence[Lane], refused: dict[int, BrokerError], deadline: float) -> None:
        """Work the lanes off, until all is settled or the time is over."""
        backoff = Backoff(0.02, 1.0)
        while left := [lane for lane in lanes if lane.open]:
            trouble = self._round(left, refused, deadline)
            if trouble is None:
                backoff.reset()
                continue
            pause = backoff.next()
            if self._link.closed or time.monotonic() + pause > deadline:
                for lane in left:
                    lane.trouble = lane.trouble or (closed() if self._link.closed else trouble)
                break
            self._link.pause(pause)
        if any(lane.doubtful for lane in lanes):
            self._identity.renew()

    def _round(self, lanes: Sequence[Lane], refused: dict[int, BrokerError], deadline: float) -> Trouble | None:
        """Send the next batch of each lane and see what became of it. The trouble that may pass, if there was any."""
        deadline = min(deadline, time.monotonic() + _ANSWER_SECONDS)
        passing: Trouble | None = None
        try:
            if not self._identity.known:
                self._identity.obtain(deadline=deadline)
            requests, passing = self._requests(lanes, deadline)
            pending = [self._link.start(node, self._request(sent, deadline), deadline=deadline) for node, sent in requests]
        except Trouble as trouble:
            return _note(lanes, trouble)
        for _, sent in requests:
            for lane, _ in sent:
                lane.doubtful = True
        try:
            self._link.wait(pending, deadline=deadline)
        except Trouble as trouble:
            passing = trouble
        for (_, sent), one in zip(requests, pending, strict=True):
            if one.is_done:
                passing = self._settle_all([lane for lane, _ in sent], one, refused) or passing
            else:
                self._forget(lane for lane, _ in sent)
        return passing

    def _settle_all(self, lanes: Sequence[Lane], pending: Pending, refused: dict[int, BrokerError]) -> Trouble | None:
        try:
            results = _results(answer_of(pending))
        except Trouble as trouble:
            self._forget(lanes)
            return _note(lanes, trouble)
        passing: Trouble | None = None
        for lane in lanes:
            passing = self._settle(lane, results.get(lane.place), refused) or passing
        return passing

    def _requests(self, lanes: Sequence[Lane], deadline: float) -> tuple[list[Request], Trouble | None]:
        """What to send to which node now, at most a request each; and why something cannot be sent now, if so."""
        now = time.time_ns() // 1_000_000
        requests: dict[Node, list[tuple[Lane, bytes]]] = defaultdict(list)
        sizes: dict[Node, int] = defaultdict(int)
        passing: Trouble | None = None
        for lane in lanes:
            topic, partition = lane.place
            try:
                node = self._cluster.leader(topic, partition, deadline=deadline)
                if node is None:
                    raise _unknown()
            except Trouble as trouble:
                # One partition that has no leader at the moment does not hold up the others.
                passing = _note([lane], trouble)
                continue
            if sizes[node] < _REQUEST:
                batch = lane.encoded(self._identity, time=now, compression=self._options.compression)
                requests[node].append((lane, batch))
                sizes[node] += len(batch)
        return list(requests.items()), passing

    @staticmethod
    def _request(sent: Sequence[tuple[Lane, bytes]], deadline: float) -> Any:
        kind = ProduceRequest.TopicProduceData
        by_topic: dict[str, list[Any]] = defaultdict(list)
        for lane, batch in sent:
            topic, partition = lane.place
            by_topic[topic].append(kind.PartitionProduceData(index=partition, records=batch))
        data = [kind(name=topic, partition_data=parts) for topic, parts in by_topic.items()]
        patience = max(1, int(1_000 * (deadline - time.monotonic())))
        # From version 13 on topics are named by ids.
        return lambda: ProduceRequest(
            transactional_id=None, acks=-1, timeout_ms=patience, topic_data=data, min_version=3, max_version=12
        )

    def _settle(self, lane: Lane, result: Any, refused: dict[int, BrokerError]) -> Trouble | None:
        """What the server said about a batch. The trouble, when it is one that may pass."""
        topic = lane.place[0]
        code = UNKNOWN_TOPIC if result is None else result.error_code
        trouble = trouble_of(code, getattr(result, "error_message", None))
        if trouble is None or code == _DUPLICATE:
            lane.stored(self._identity)
        elif code in _TOO_LARGE and len(lane.head) > 1:
            lane.split()
        elif code in _NEVER:
            refused.update(dict.fromkeys(lane.drop(), self._explained(trouble, topic)))
        elif trouble.final:
            if code in _UNKNOWN_PRODUCER:
                self._identity.forget()
            lane.trouble = trouble
        else:
            self._cluster.forget(topic)
            return trouble
        return None

    def _forget(self, lanes: Iterable[Lane]) -> None:
        """Look for their leaders again."""
        for lane in lanes:
            self._cluster.forget(lane.place[0])

    def _explained(self, trouble: Trouble, topic: str) -> BrokerError:
        return trouble.explained(self._url, topic, self._link.hosts)


def _note(lanes: Sequence[Lane], trouble: Trouble) -> Trouble:
    """``trouble`` again, and noted at the lanes it ends."""
    if trouble.final:
        for lane in lanes:
            lane.trouble = trouble
    return trouble


def _results(answer: Any) -> dict[Place, Any]:
    return {(topic.name, one.index): one for topic in answer.responses for one in topic.partition_responses}


def _unknown() -> Trouble:
    trouble = trouble_of(UNKNOWN_TOPIC)
    assert trouble is not None
    return trouble
