"""What goes into the outbox and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from schemas.frame import MAX_BYTES
from schemas.registry import EventSchema

WhenFull = Literal["block", "drop_oldest", "drop_newest"]
WHEN_FULL: Final[tuple[WhenFull, ...]] = get_args(WhenFull)

# Reasons in `Dropped` records.
OUTBOX_FULL: Final = "outbox-full"
DAMAGED: Final = "damaged"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Route:
    """Where the events of a channel go, and what they are."""

    topic: str
    transport: str
    schema: EventSchema
    when_full: WhenFull = "block"
    #: A frame is closed before it grows beyond; one event that is larger is a frame alone.
    max_frame_bytes: int = MAX_BYTES


class Offer(NamedTuple):
    """Events of one route, in order, encoded by `schemas.frame.encode_tail`."""

    route: Route
    tails: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Built:
    """A frame and what it holds; a control record has a ``count`` of 0."""

    first: int
    count: int
    body: bytes


class Batch(NamedTuple):
    """What one transaction accepts as a whole: events, and the state of the driver after them."""

    application: str
    offers: Sequence[Offer]
    state: bytes | None = None
    #: Devices and channels the application has not emitted on before.
    devices: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """A frame or control record that waits for its broker. ``count`` is 0 for control records; ``size`` is its row's."""

    id: int
    stream: int
    topic: str
    epoch: int
    first: int
    count: int
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """Of a frame that its broker has taken over, what is needed to forget it. Many wait while the disk is away."""

    id: int
    stream: int
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which frames a publisher wants: behind the id ``after`` (-1: from the oldest), and no more than it can carry."""

    after: int = -1
    #: None of these streams.
    without: frozenset[int] = frozenset()
    #: Of this stream alone, and none behind the id ``up_to``: a topic that was left out goes on.
    only: int | None = None
    up_to: int | None = None
    #: A look beyond what the publisher has not got rid of yet: what lies between is not in its hand.
    ahead: bool = False
    max_frames: int = 256
    max_bytes: int = 4 << 20


class TopicCounts(NamedTuple):
    """Events of a topic since the outbox was made: ``accepted = published + dropped + buffered``."""

    topic: str
    transport: str
    epoch: int
    next_seq: int
    accepted: int
    published: int
    dropped: int
    buffered: int
    buffered_bytes: int


class OutboxState(NamedTuple):
    """What the outbox holds and has done; events unless said otherwise.

    ``refusing`` says why nothing is accepted now, and is empty when all is well; ``waiting`` counts batches
    that wait for room. ``damaged`` counts frames set aside.
    """

    epoch: int
    topics: tuple[TopicCounts, ...]
    dropped_by_reason: dict[str, int]
    accepted: int
    published: int
    dropped: int
    damaged: int
    buffered_events: int
    buffered_bytes: int
    max_bytes: int
    waiting: int
    refusing: str
