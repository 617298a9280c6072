"""What waits for the outbox's thread: batches to accept, and what publishers have to say."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway_agent.outbox.layout import OutboxError
from gateway_agent.outbox.records import Batch, Held, Taken

#: Bytes of events, and of frames let go of, in one transaction, about: both are written to the log.
_TURN_BYTES: Final = 4 << 20

Done = Callable[[OutboxError | None], None]


@dataclass(slots=True, eq=False)
class Submission:
    """A batch, who wants to know when it is on disk, and the room it needs because nothing of it may be dropped."""

    batch: Batch
    done: Done
    size: int
    needed: int


@dataclass(slots=True, eq=False)
class Settlement:
    """What a publisher has to say: frames taken over, refused for ever, or found damaged."""

    published: Sequence[Taken] = ()
    refused: Sequence[Held] = ()
    reason: str = ""
    damaged: Sequence[int] = ()
    urgent: bool = False
    settled: threading.Event = field(default_factory=threading.Event)

    @property
    def streams(self) -> set[int]:
        """Those its frames are of; of damaged ones it is not known."""
        return {one.stream for one in self.published} | {one.stream for one in self.refused}


class WorkQueue:
    """In order of arrival; batches that were found to have no room wait apart and come first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arrived: deque[Submission] = deque()
        self._waiting: deque[Submission] = deque()
        self._settlements: deque[Settlement] = deque()

    @property
    def waiting(self) -> int:
        """Batches that wait for room."""
        return len(self._waiting)

    @property
    def arrived(self) -> bool:
        """Whether there are batches that have not been looked at."""
        return bool(self._arrived)

    def submit(self, submission: Submission) -> None:
        with self._changed:
            self._arrived.append(submission)
            self._changed.notify()

    def settle(self, settlement: Settlement) -> None:
        with self._changed:
            self._settlements.append(settlement)
            self._changed.notify()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def withdraw(self, application: str) -> list[Submission]:
        """Take the batches of an application out."""
        with self._changed:
            withdrawn = [one for one in (*self._waiting, *self._arrived) if one.batch.application == application]
            self._waiting = deque(one for one in self._waiting if one.batch.application != application)
            self._arrived = deque(one for one in self._arrived if one.batch.application != application)
        return withdrawn

    def wait(self, timeout: float) -> bool:
        """Whether there is anything to do before ``timeout`` seconds have passed. A batch that lacks room is nothing."""
        with self._changed:
            if not self._arrived and not self._settlements:
                self._changed.wait(timeout)
            return bool(self._arrived or self._settlements)

    def linger(self, timeout: float) -> None:
        """When nobody waits for what is there, wait for something to do together with it."""
        with self._changed:
            if not self._arrived and not self._waiting and not any(one.urgent for one in self._settlements):
                self._changed.wait(timeout)

    def take(self) -> tuple[list[Submission], list[Settlement]]:
        """What one transaction is to do."""
        with self._changed:
            settlements = self._take_settlements()
            submissions = list(self._waiting)
            self._waiting.clear()
            size = 0
            while self._arrived and (size < _TURN_BYTES or not submissions):
                size += self._arrived[0].size
                submissions.append(self._arrived.popleft())
        return submissions, settlements

    def take_settlements(self) -> list[Settlement]:
        with self._changed:
            return self._take_settlements()

    def let_wait(self, submissions: Sequence[Submission]) -> None:
        """There is no room for these."""
        with self._changed:
            self._waiting.extend(submissions)

    def put_back(self, submissions: Sequence[Submission], settlements: Sequence[Settlement]) -> None:
        """A transaction has failed: these come first."""
        with self._changed:
            self._arrived.extendleft(reversed(submissions))
            self._settlements.extendleft(reversed(settlements))

    def clear(self) -> tuple[list[Submission], list[Settlement]]:
        """Everything, at the end."""
        with self._changed:
            left = [*self._waiting, *self._arrived], list(self._settlements)
            self._waiting.clear()
            self._arrived.clear()
            self._settlements.clear()
        return left

    def _take_settlements(self) -> list[Settlement]:
        taken: list[Settlement] = []
        size = 0
        while self._settlements and (size < _TURN_BYTES or not taken):
            taken.append(self._settlements.popleft())
            size += sum(one.size for one in taken[-1].published)
        return taken
