"""Group commit: one thread that puts all that has come in meanwhile into one transaction, and so under one fsync."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from brokers.backoff import Backoff
from gateway_agent.outbox import accepting, dropping, handing
from gateway_agent.outbox.framing import Framer
from gateway_agent.outbox.layout import OutboxError, failure, is_damage
from gateway_agent.outbox.ledger import Ledger
from gateway_agent.outbox.records import Batch, Held
from gateway_agent.outbox.space import Ballast, give_back, worth_giving_back
from telemetry.logs import logger

#: Bytes of events in one transaction, about.
_COMMIT_BYTES: Final = 8 << 20
#: Seconds that letting go of published frames waits for new events to share their transaction with.
_LINGER: Final = 0.05
#: Seconds without anything to do after which room is given back to the disk.
_IDLE: Final = 0.5

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

    published: Sequence[Held] = ()
    refused: Sequence[Held] = ()
    reason: str = ""
    damaged: Sequence[int] = ()
    urgent: bool = False
    settled: threading.Event = field(default_factory=threading.Event)


class Committer:
    """Writes to a ledger from one thread. ``books`` guards the ledger; ``committed`` is notified after a transaction."""

    def __init__(
        self, ledger: Ledger, framer: Framer, books: threading.Lock, committed: threading.Condition, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._framer = framer
        self._books = books
        self._committed = committed
        self._clock = clock
        self._log = logger("outbox")
        self._ballast = Ballast(ledger.path.with_name("outbox.reserve"))
        self._changed = threading.Condition()
        self._arrived: deque[Submission] = deque()
        self._waiting: deque[Submission] = deque()
        self._settlements: deque[Settlement] = deque()
        self._closing = threading.Event()
        self._may_give_back = True
        #: How many transactions there were; why nothing is accepted now; why nothing ever will be.
        self.commits = 0
        self.refusing = ""
        self.failed: OutboxError | None = None
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)

    @property
    def waiting(self) -> int:
        """Batches that wait for room."""
        return len(self._waiting)

    def start(self) -> None:
        self._ballast.lay_by()
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        size = sum(len(tail) for offer in batch.offers for tail in offer.tails)
        submission = Submission(batch, done, size, accepting.needed(self._framer, batch))
        with self._changed:
            if self._closing.is_set() or self.failed:
                raise self.failed or OutboxError(f"{self._path}: is closed")
            self._arrived.append(submission)
            self._changed.notify()

    def withdraw(self, application: str) -> None:
        """Take back batches that wait, with an error; one that is being committed right now is not among them."""
        with self._changed:
            withdrawn = [one for one in (*self._waiting, *self._arrived) if one.batch.application == application]
            self._waiting = deque(one for one in self._waiting if one.batch.application != application)
            self._arrived = deque(one for one in self._arrived if one.batch.application != application)
        for submission in withdrawn:
            submission.done(OutboxError(f"{self._path}: withdrawn"))

    def settle(self, settlement: Settlement) -> None:
        with self._changed:
            self._settlements.append(settlement)
            self._changed.notify()

    def fail(self, error: sqlite3.DatabaseError) -> None:
        """The file is broken: nothing more is accepted or handed out."""
        self.failed = failure(self._path, error)
        self._log.error("the outbox cannot go on", reason=str(self.failed))
        with self._changed:
            self._changed.notify()
        with self._committed:
            self._committed.notify_all()

    def close(self, timeout: float) -> None:
        """Write what has come in; batches that wait for room end with an error."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout)
        with self._committed:
            self._committed.notify_all()

    @property
    def _path(self) -> Path:
        return self._ledger.path

    def _work(self) -> None:
        pauses = Backoff(0.2, 5.0)
        while self._wait_for_work() and not self.failed:
            submissions, settlements = self._take()
            try:
                admitted = self._commit(submissions, settlements)
            except sqlite3.DatabaseError as error:
                self._put_back(submissions, settlements)
                if is_damage(error):
                    self.fail(error)
                    break
                if self._closing.is_set():
                    break
                self._refuse(error)
                self._closing.wait(pauses.next())
                continue
            pauses.reset()
            self._accepting_again()
            for submission in admitted:
                submission.done(None)
            for settlement in settlements:
                settlement.settled.set()
            with self._committed:
                self.commits += 1
                self._committed.notify_all()
        self._end()

    def _wait_for_work(self) -> bool:
        """Whether there is any; False at the end."""
        with self._changed:
            while not self._arrived and not self._settlements:
                if self._closing.is_set() or self.failed:
                    return False
                if not self._changed.wait(_IDLE) and self._may_give_back:
                    self._may_give_back = False
                    self._changed.release()
                    try:
                        self._give_back()
                    finally:
                        self._changed.acquire()
            relaxed = not self._arrived and not self._waiting and not any(one.urgent for one in self._settlements)
            if relaxed and not self._closing.is_set():
                self._changed.wait(_LINGER)
            return True

    def _take(self) -> tuple[list[Submission], list[Settlement]]:
        with self._changed:
            settlements = list(self._settlements)
            self._settlements.clear()
            submissions = list(self._waiting)
            self._waiting.clear()
            size = 0
            while self._arrived and (size < _COMMIT_BYTES or not submissions):
                size += self._arrived[0].size
                submissions.append(self._arrived.popleft())
        return submissions, settlements

    def _put_back(self, submissions: Sequence[Submission], settlements: Sequence[Settlement]) -> None:
        with self._changed:
            self._arrived.extendleft(reversed(submissions))
            self._settlements.extendleft(reversed(settlements))

    def _commit(self, submissions: Sequence[Submission], settlements: Sequence[Settlement]) -> list[Submission]:
        """One transaction; the batches it accepted. Those that do not fit wait, and others of their application with them."""
        ledger, now = self._ledger, self._clock()
        admitted: list[Submission] = []
        waiting: list[Submission] = []
        with self._books:
            with ledger.transaction():
                for settlement in settlements:
                    handing.let_go(ledger, settlement.published)
                    dropping.give_up(ledger, settlement.refused, settlement.reason)
                    if settlement.damaged:
                        dropping.set_aside(ledger, settlement.damaged, now=now)
                held_up: set[str] = set()
                for submission in submissions:
                    application = submission.batch.application
                    if application in held_up or not accepting.fits(ledger, submission.needed):
                        held_up.add(application)
                        waiting.append(submission)
                    else:
                        accepting.accept(ledger, self._framer, submission.batch, now=now)
                        admitted.append(submission)
            self._may_give_back = self._may_give_back or bool(settlements)
        with self._changed:
            self._waiting.extend(waiting)
        return admitted

    def _refuse(self, error: sqlite3.DatabaseError) -> None:
        """Not accepting for now. The reserve is given up, so that at least what is published can be let go of."""
        if not self.refusing:
            self._log.error("the outbox accepts nothing for now", reason=str(error), path=str(self._path))
        self.refusing = str(error)
        self._ballast.release()
        with self._changed:
            settlements = list(self._settlements)
            self._settlements.clear()
        try:
            self._commit([], settlements)
            with self._books:
                give_back(self._ledger.connection)
        except sqlite3.DatabaseError:
            self._put_back([], settlements)
            return
        for settlement in settlements:
            settlement.settled.set()

    def _accepting_again(self) -> None:
        if self.refusing:
            self.refusing = ""
            self._log.warning("the outbox accepts events again", path=str(self._path))
        self._ballast.lay_by()

    def _give_back(self) -> None:
        with self._books:
            more = worth_giving_back(self._ledger.connection)
        while more and not self._arrived and not self._closing.is_set():
            with self._books:
                try:
                    more = give_back(self._ledger.connection)
                except sqlite3.DatabaseError as error:
                    self._log.warning("no room was given back", reason=str(error))
                    return
        self._may_give_back = more

    def _end(self) -> None:
        with self._changed:
            self._closing.set()
            left, settlements = [*self._waiting, *self._arrived], list(self._settlements)
        error = self.failed or OutboxError(f"{self._path}: was closed before there was room", remedy="emit again after a restart")
        for submission in left:
            submission.done(error)
        for settlement in settlements:
            settlement.settled.set()
