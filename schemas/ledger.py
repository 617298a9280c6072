"""What a gateway says of its outbox, so that what it has accepted can be held against what is stored. JSON, by msgspec."""

from __future__ import annotations

import msgspec

from schemas.control import Dropped, EpochStart


class Waiting(msgspec.Struct, frozen=True):
    """Events ``first`` to ``next`` (exclusive) of an epoch that wait for a broker."""

    epoch: int
    first: int
    next: int


class TopicLedger(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic's counters. Those of events are since the outbox was made: ``accepted = published + dropped + buffered``.

    A heartbeat tells the numbers only. ``waiting`` is None then: what waits are the last ``buffered`` events.
    """

    topic: str
    #: The newest epoch that has begun in the topic, and the seq that its next event will get.
    epoch: int
    next_seq: int
    accepted: int
    buffered: int
    waiting: tuple[Waiting, ...] | None = None
    #: Events given up, by reason.
    dropped: dict[str, int] = {}
    #: Control records that wait for a broker.
    started: tuple[EpochStart, ...] = ()
    given_up: tuple[Dropped, ...] = ()


class GatewayLedger(msgspec.Struct, frozen=True):
    """All topics of a gateway, as of one transaction. ``time``, when it was read, is µs since 1970, UTC."""

    gateway: str
    time: int
    topics: tuple[TopicLedger, ...]
