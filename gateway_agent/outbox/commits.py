"""Group commit: one thread that puts all that has come in meanwhile into one transaction, and so under one fsync."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Final

from brokers.backoff import Backoff
from gateway_agent.outbox import accepting, dropping, handing, moving
from gateway_agent.outbox.framing import Framer
from gateway_agent.outbox.layout import OutboxError, failure, is_damage, marker
from gateway_agent.outbox.ledger import Ledger
from gateway_agent.outbox.queue import Done, Settlement, Submission, WorkQueue
from gateway_agent.outbox.records import Batch
from gateway_agent.outbox.space import LOG_BYTES, Ballast, give_back, log_bytes, move_into_file, worth_giving_back
from telemetry.logs import logger

#: Seconds that letting go of published frames waits for new events to share their transaction with.
_LINGER: Final = 0.05
#: Seconds without anything to do after which room is given back to the disk.
_IDLE: Final = 0.5


class Committer:
    """Writes to a ledger from one thread. ``books`` guards the ledger; ``committed`` is notified after a transaction."""

    def __init__(
        self, ledger: Ledger, framer: Framer, books: threading.Lock, committed: threading.Condition, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._path = ledger.path
        self._framer = framer
        self._books = books
        self._committed = committed
        self._clock = clock
        self._log = logger("outbox", path=str(ledger.path))
        self._ballast = Ballast(ledger.path)
        self._queue = WorkQueue()
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
        return self._queue.waiting

    def start(self) -> None:
        if not self._ballast.lay_by():
            self.refuse("there is no room for the reserve")
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        if self._closing.is_set() or self.failed:
            raise self.failed or OutboxError(f"{self._path}: is closed")
        size = sum(len(tail) for offer in batch.offers for tail in offer.tails)
        self._queue.submit(Submission(batch, done, size, accepting.needed(self._framer, batch)))

    def settle(self, settlement: Settlement) -> None:
        self._queue.settle(settlement)

    def withdraw(self, application: str) -> None:
        """Take back batches that wait, with an error; one that is being committed right now is not among them."""
        for submission in self._queue.withdraw(application):
            submission.done(OutboxError(f"{self._path}: withdrawn"))

    def fail(self, error: Exception) -> None:
        """Nothing more is accepted or handed out: the file is broken, or this program is."""
        if isinstance(error, sqlite3.Error):
            self.failed = failure(self._path, error)
            if is_damage(error):
                with contextlib.suppress(OSError):
                    marker(self._path).touch()
        else:
            self.failed = OutboxError(f"{self._path}: {type(error).__name__}: {error}", remedy="report this, with the log")
        self._log.error("the outbox cannot go on", reason=str(self.failed))
        self._queue.wake()
        with self._committed:
            self._committed.notify_all()

    def close(self, timeout: float) -> None:
        """Write what has come in; batches that wait for room end with an error."""
        self._closing.set()
        self._queue.wake()
        self._thread.join(timeout)
        with self._committed:
            self._committed.notify_all()

    def _work(self) -> None:
        pauses = Backoff(0.1, 2.0)
        while not self.failed:
            if not self._queue.wait(_IDLE):
                if self._closing.is_set():
                    break
                self._give_back()
            elif not self._closing.is_set():
                self._queue.linger(_LINGER)
            if not self._try_turn() and self._closing.wait(pauses.next()):
                break
            if not self.refusing:
                pauses.reset()
        self._end()

    def _try_turn(self) -> bool:
        """Whatever goes wrong, this thread goes on, or says that it cannot. False when the disk is full, or away."""
        try:
            return self._take_turn()
        except Exception as error:  # noqa: BLE001  (callers wait for an answer, whatever happens here)
            if isinstance(error, (sqlite3.Error, OSError)) and not is_damage(error):
                self.refuse(str(error))
                return False
            self._log.exception("a transaction failed")
            self.fail(error)
            return True

    def _take_turn(self) -> bool:
        """A transaction, if there is anything to do; False when there is no room for the reserve yet."""
        if self.refusing and not self._make_room():
            return False
        submissions, settlements = self._queue.take()
        try:
            admitted = self._commit(submissions, settlements)
        except BaseException:
            self._queue.put_back(submissions, settlements)
            raise
        if self.refusing and (admitted or not submissions):
            self.refusing = ""
            self._log.warning("the outbox accepts events again")
        self._tell(admitted, settlements)
        with self._books:
            # Keep the log short: what it holds is what the reserve must make room for.
            if log_bytes(self._path) > LOG_BYTES:
                move_into_file(self._ledger.connection)
        return True

    def _commit(self, submissions: Sequence[Submission], settlements: Sequence[Settlement]) -> list[Submission]:
        """One transaction; the batches it accepted. Those that do not fit wait, and others of their application with them."""
        if not submissions and not settlements:
            return []
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
                    moving.release(ledger, list(ledger.numbers) if settlement.damaged else settlement.streams)
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
        self._queue.let_wait(waiting)
        return admitted

    def _tell(self, admitted: Sequence[Submission], settlements: Sequence[Settlement]) -> None:
        for submission in admitted:
            submission.done(None)
        for settlement in settlements:
            settlement.settled.set()
        with self._committed:
            self.commits += 1
            self._committed.notify_all()

    def refuse(self, reason: str) -> None:
        """Accept nothing for now. The reserve goes, so that what is published can still be let go of."""
        if not self.refusing:
            self._log.error("the outbox accepts nothing for now", reason=reason)
        self.refusing = reason
        self._ballast.release()

    def _make_room(self) -> bool:
        """Let go of what is published and give its room back to the disk; whether there is room for the reserve again."""
        with self._books:
            self._ledger.restore()
            move_into_file(self._ledger.connection)
        while settlements := self._queue.take_settlements():
            try:
                self._commit([], settlements)
            except BaseException:
                self._queue.put_back([], settlements)
                raise
            self._tell([], settlements)
            with self._books:
                move_into_file(self._ledger.connection)
        with self._books:
            while give_back(self._ledger.connection):
                move_into_file(self._ledger.connection)
            move_into_file(self._ledger.connection)
        return self._ballast.lay_by()

    def _give_back(self) -> None:
        """Nothing to do: give room back to the disk, in steps, until something comes."""
        if not self._may_give_back or self.refusing:
            return
        try:
            with self._books:
                more = worth_giving_back(self._ledger.connection)
            while more and not self._queue.arrived and not self._closing.is_set():
                with self._books:
                    more = give_back(self._ledger.connection)
                    if not more:
                        move_into_file(self._ledger.connection)
        except sqlite3.Error as error:
            if is_damage(error):
                self.fail(error)
            self._log.warning("no room was given back", reason=str(error))
            return
        self._may_give_back = more

    def _end(self) -> None:
        self._closing.set()
        submissions, settlements = self._queue.clear()
        error = self.failed or OutboxError(f"{self._path}: was closed before there was room", remedy="emit again after a restart")
        for submission in submissions:
            submission.done(error)
        for settlement in settlements:
            settlement.settled.set()
