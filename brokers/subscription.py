"""One way to consume topics as deliveries, whatever the broker's family.

A queue hands out deliveries by itself. A log is followed over all partitions of the topics, also those that
come into being later, with a position per partition that acknowledging moves on: what was not acknowledged
when the reader closed or died comes again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from brokers.contract import Broker, Delivery, LogReader, QueueReader
from brokers.errors import BrokerError, OffsetExpired
from brokers.positions import MemoryPositions, Place, Positions
from schemas.errors import ConfigurationError
from schemas.topics import check_topic
from telemetry.logs import logger

Start = Literal["beginning", "end"]

#: Bytes of values that one poll returns, and deliveries that may be unacknowledged at once.
MAX_BYTES: Final = 16 << 20
MAX_UNACKNOWLEDGED: Final = 10_000
#: Seconds between looks for new partitions, while a topic does not exist and when all do.
_LOOK_SOON: Final = 0.25
_LOOK_EVERY: Final = 2.0
#: Seconds to wait in one of several partitions before looking at the others again: at least, and at most when a look at all
#: of them takes long, so that looking in vain takes a tenth of a core.
_TURN: Final = 0.02
_LONGEST_TURN: Final = 0.25
_LOOKS_SHARE: Final = 10


class Tag(NamedTuple):
    """The tag of a delivery from a log."""

    topic: str
    partition: int
    offset: int


class _Followed:
    """A partition: the next offset to read, and which of those read are not acknowledged, in order."""

    def __init__(self, offset: int) -> None:
        self.next = offset
        self.open: dict[int, None] = {}

    @property
    def position(self) -> int:
        return next(iter(self.open), self.next)


def subscribe(
    broker: Broker,
    topics: Sequence[str],
    *,
    group: str,
    positions: Positions | None = None,
    start: Start = "end",
) -> QueueReader:
    """Deliveries of ``topics``, which need not exist yet.

    ``group`` names the subscriber: for a queue its readers share the deliveries; a log has one reader per
    ``positions`` (by default in memory). A partition without a stored position begins at ``start`` as it is
    at the first `poll`; one that comes into being later is read from its beginning. The first `poll` connects
    and stores where it begins. Raises `ConfigurationError` for a wrong topic.
    """
    for topic in topics:
        check_topic(topic)
    if not topics:
        raise ConfigurationError(f"{broker.url}: no topic to subscribe to", remedy="name at least one")
    if not broker.capabilities.log:
        return broker.queue_reader(topics, group=group)
    return LogSubscription(broker, topics, group=group, positions=positions or MemoryPositions(), start=start)


class LogSubscription:
    """A log followed as a `brokers.contract.QueueReader`. Made by `subscribe`."""

    def __init__(self, broker: Broker, topics: Sequence[str], *, group: str, positions: Positions, start: Start) -> None:
        self._url = broker.url
        self._reader: LogReader = broker.log_reader()
        self._topics = tuple(dict.fromkeys(topics))
        self._group = group
        self._positions = positions
        self._start: Start = start
        self._followed: dict[Place, _Followed] = {}
        self._turns: deque[Place] = deque()
        self._again: deque[Delivery] = deque()
        self._look_at = 0.0
        #: Topics whose partitions have been seen, and why what was tried last of a topic or partition failed.
        self._seen: set[str] = set()
        self._failures: dict[str | Place, BrokerError] = {}
        self._closing = threading.Event()
        self._log = logger("subscription", broker=self._url, group=group)

    def poll(self, *, max_messages: int, timeout: float) -> Sequence[Delivery]:
        """See `brokers.contract.QueueReader.poll`.

        Returns none while `MAX_UNACKNOWLEDGED` are unacknowledged. Offsets that the log no longer keeps are skipped
        with a warning. Raises `BrokerUnavailable`, and `BrokerRefused` when a stored position is beyond the end: for one topic
        or partition only when the others have nothing, so that it holds up none of them.
        """
        until = time.monotonic() + timeout
        if self._again:
            return [self._again.popleft() for _ in range(min(max_messages, len(self._again)))]
        while not self._closing.is_set():
            self._look_for_partitions()
            room = min(max_messages, MAX_UNACKNOWLEDGED - sum(len(followed.open) for followed in self._followed.values()))
            began = time.monotonic()
            if found := self._collect(room):
                return found
            if self._failures:
                raise next(iter(self._failures.values()))
            turn = min(_LONGEST_TURN, max(_TURN, _LOOKS_SHARE * (time.monotonic() - began)))
            left = until - time.monotonic()
            if left <= 0:
                break
            if room <= 0 or not self._turns:
                self._closing.wait(min(turn, left))
            else:
                # Waiting inside the reader notices a new record sooner, and cheaper, than sleeping here.
                place = self._turns[0]
                self._turns.rotate(-1)
                alone = len(self._turns) == 1
                wait = min(left, self._look_at - time.monotonic() if alone else turn)
                if found := self._read(place, room, MAX_BYTES, max(0.0, wait)):
                    return found
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Store the positions after all that is acknowledged without a gap."""
        touched = set()
        for delivery in deliveries:
            tag = delivery.tag
            if not isinstance(tag, Tag):
                raise TypeError(f"not a delivery of this subscription: {tag!r}")
            place = (tag.topic, tag.partition)
            self._followed[place].open.pop(tag.offset, None)
            touched.add(place)
        if not touched:
            return
        moved = {place: self._followed[place].position for place in touched}
        self._positions.store(moved)
        for (topic, partition), offset in moved.items():
            self._reader.commit(self._group, topic, partition, offset)

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver these again at the next `poll`, before others."""
        self._again.extend(delivery._replace(redelivered=True) for delivery in deliveries)

    def lag(self) -> int:
        """How many records are in the log that were not acknowledged. Raises `BrokerUnavailable`."""
        return sum(
            max(0, self._reader.end_offset(topic, partition) - followed.position)
            for (topic, partition), followed in self._followed.items()
        )

    def close(self) -> None:
        self._closing.set()
        self._reader.close()

    def _collect(self, room: int) -> list[Delivery]:
        """What is there now, from each partition in turn."""
        found: list[Delivery] = []
        left = MAX_BYTES
        for place in tuple(self._turns):
            if len(found) >= room or left <= 0:
                break
            self._turns.rotate(-1)
            try:
                more = self._read(place, room - len(found), left, 0.0)
            except BrokerError as error:
                self._fail(place, error)
                continue
            self._failures.pop(place, None)
            left -= sum(len(delivery.value) for delivery in more)
            found += more
        return found

    def _read(self, place: Place, max_records: int, max_bytes: int, timeout: float) -> list[Delivery]:
        topic, partition = place
        followed = self._followed[place]
        try:
            records = self._reader.read(
                topic, partition, followed.next, max_records=max_records, max_bytes=max_bytes, timeout=timeout
            )
        except OffsetExpired as expired:
            self._log.warning(
                "skipped records that are no longer kept",
                topic=topic,
                partition=partition,
                first=followed.next,
                next=expired.begin,
            )
            followed.next = expired.begin
            return []
        if self._closing.is_set():
            return []
        deliveries = []
        for record in records:
            followed.open[record.offset] = None
            deliveries.append(Delivery(topic, record.key, record.value, Tag(topic, partition, record.offset), False))
        if records:
            followed.next = records[-1].offset + 1
        return deliveries

    def _look_for_partitions(self) -> None:
        if time.monotonic() < self._look_at:
            return
        found: dict[Place, _Followed] = {}
        seen: set[str] = set()
        for topic in self._topics:
            try:
                partitions, begun = self._begin(topic)
            except BrokerError as error:
                self._fail(topic, error)
                continue
            self._failures.pop(topic, None)
            found |= begun
            if partitions:
                seen.add(topic)
        # Stored before anything is read, so that a subscriber that dies now goes on from here and not from a later end.
        if found:
            self._positions.store({place: followed.next for place, followed in found.items()})
            self._followed.update(found)
            self._turns.extend(found)
        self._seen.update(topic for topic in self._topics if topic not in self._failures)
        self._look_at = time.monotonic() + (_LOOK_EVERY if len(seen) == len(self._topics) else _LOOK_SOON)

    def _begin(self, topic: str) -> tuple[Sequence[int], dict[Place, _Followed]]:
        """The partitions a topic has, and where to begin in those that are new. Raises `BrokerError`, with nothing begun."""
        partitions = self._reader.partitions(topic)
        stored = {partition: self._positions.load(topic, partition) for partition in partitions}
        # A partition beside others with a position was added since: nothing in it has been seen.
        at_end = self._start == "end" and topic not in self._seen and all(offset is None for offset in stored.values())
        look = self._reader.end_offset if at_end else self._reader.begin_offset
        return partitions, {
            (topic, partition): _Followed(look(topic, partition) if offset is None else offset)
            for partition, offset in stored.items()
            if (topic, partition) not in self._followed
        }

    def _fail(self, what: str | Place, error: BrokerError) -> None:
        """Remember why a topic or partition is left out, and say so the first time: others may go on for long."""
        if what not in self._failures:
            self._log.warning("left out until it can be read again", why=error.message, remedy=error.remedy)
        self._failures[what] = error
