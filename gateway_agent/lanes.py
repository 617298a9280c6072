"""Topics that go by themselves: their broker takes others, but not them, and they must not hold those up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from brokers.backoff import Backoff


@dataclass(slots=True)
class Lane:
    """A topic that goes by itself until it has caught up with the others."""

    stream: int
    topic: str
    #: The id of a frame: all of the topic up to it is done with.
    after: int
    #: When it is tried again, in seconds of the clock, and why the last attempt failed; empty when it did not.
    due: float
    reason: str = ""
    #: It has not failed by itself yet: the little that it is behind is soon done.
    brief: bool = True
    pauses: Backoff = field(default_factory=lambda: Backoff(0.1, 30.0))


class Lanes:
    """The topics of one transport that go by themselves. ``clock`` gives seconds. Reading is safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: dict[int, Lane] = {}
        self.streams: frozenset[int] = frozenset()

    def open(self, stream: int, topic: str, after: int) -> Lane:
        """Let a topic go by itself from behind the frame ``after``, at once."""
        lane = self._lanes[stream] = Lane(stream, topic, after, 0.0)
        self.streams = frozenset(self._lanes)
        return lane

    def close(self, lane: Lane) -> None:
        """The topic goes with the others again."""
        del self._lanes[lane.stream]
        self.streams = frozenset(self._lanes)

    def go_on(self, lane: Lane, after: int) -> None:
        """An attempt succeeded: all up to ``after`` is done with, and the next may come when it is this one's turn."""
        lane.after, lane.due, lane.reason = after, self._clock(), ""
        lane.pauses.reset()

    def put_off(self, lane: Lane, after: int, reason: str) -> float:
        """An attempt failed; returns the seconds to the next one."""
        pause = lane.pauses.next()
        lane.after, lane.due, lane.reason, lane.brief = after, self._clock() + pause, reason, False
        return pause

    def due(self) -> Lane | None:
        """The one that has waited longest of those whose time has come."""
        lane = min(self._lanes.values(), key=lambda one: one.due, default=None)
        return lane if lane is not None and lane.due <= self._clock() else None

    @property
    def catching_up(self) -> bool:
        """Whether any is soon with the others again, if these wait for it: together they are faster."""
        return any(lane.brief for lane in self._lanes.values())

    def reasons(self) -> dict[str, str]:
        """Why topics wait, by topic."""
        return {lane.topic: lane.reason for lane in list(self._lanes.values()) if lane.reason}
