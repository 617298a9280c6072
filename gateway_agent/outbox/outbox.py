"""The outbox: what it has accepted is on disk, and stays there until a broker has taken it over."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway_agent.outbox import handing
from gateway_agent.outbox.commits import Committer
from gateway_agent.outbox.framing import Framer
from gateway_agent.outbox.handing import Handed
from gateway_agent.outbox.layout import OutboxError, damaged, failure, is_damage, is_full, marker
from gateway_agent.outbox.ledger import Ledger
from gateway_agent.outbox.queue import Done, Settlement
from gateway_agent.outbox.records import Batch, Choice, Held, OutboxState, Taken, TopicCounts
from gateway_agent.outbox.space import Ballast
from telemetry.logs import logger


def wall_clock() -> int:
    """µs since 1970, UTC."""
    return time.time_ns() // 1_000


class Outbox:
    """An open outbox in ``directory``; every opening begins a new epoch. All methods may be called from any thread.

    ``transports`` names those that events will be accepted for; ``clock`` gives µs since 1970, UTC. Raises
    `OutboxError` when another process has it open, and `OutboxDamaged` when the file is broken.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        gateway: str,
        transports: Sequence[str],
        max_bytes: int = 1 << 30,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.path = Path(directory) / "outbox.sqlite"
        self._lock_file = take_lock(self.path)
        try:
            self._ledger = self._open(gateway, max_bytes, list(transports), clock)
        except BaseException as error:
            os.close(self._lock_file)
            if isinstance(error, sqlite3.DatabaseError):
                raise failure(self.path, error) from error
            raise
        self._transports = frozenset(transports)
        self._log = logger("outbox")
        self._books = threading.Lock()
        self._committed = threading.Condition()
        self._closed = False
        self._committer = Committer(self._ledger, Framer(gateway, self._ledger.epoch), self._books, self._committed, clock)
        self._committer.start()

    @property
    def epoch(self) -> int:
        return self._ledger.epoch

    @property
    def failed(self) -> OutboxError | None:
        """Why nothing can be accepted or published any more, if so."""
        return self._committer.failed

    def submit(self, batch: Batch, done: Done) -> None:
        """Accept a batch when its turn comes. ``done`` is called, by another thread, when it is on disk, or with an error.

        Batches of one application keep their order. One that has to wait for room holds up no other application.
        ``done`` must be brief. Raises `OutboxError` when the outbox is closed or broken.
        """
        self._committer.submit(batch, done)

    def accept(self, batch: Batch, *, timeout: float = 30.0) -> None:
        """`submit`, and wait until it is on disk. Raises `OutboxError`; after ``timeout`` seconds it may yet be accepted."""
        finished = threading.Event()
        outcome: list[OutboxError | None] = []

        def done(error: OutboxError | None) -> None:
            outcome.append(error)
            finished.set()

        self.submit(batch, done)
        if not finished.wait(timeout):
            why = self._committer.refusing or "it is full"
            raise OutboxError(f"{self.path}: not accepted within {timeout:g} s: {why}", remedy="is the broker reachable?")
        if outcome[0] is not None:
            raise outcome[0]

    def withdraw(self, application: str) -> None:
        """Take back batches of an application that still wait; they end with an error. Some may be on their way to disk."""
        self._committer.withdraw(application)

    def hand_out(
        self, transport: str, *, after: int, max_frames: int = 256, max_bytes: int = 4 << 20, timeout: float = 0.0
    ) -> list[Held]:
        """The next frames of a transport in their order, behind the one with the id ``after`` (-1: the oldest).

        Waits up to ``timeout`` seconds for the first; empty when there is none, or when the outbox is closed.
        """
        return self.pick(transport, Choice(after, max_frames=max_frames, max_bytes=max_bytes), timeout=timeout).frames

    def pick(self, transport: str, choice: Choice, *, timeout: float = 0.0) -> Handed:
        """`hand_out` of the frames that are wanted, and the id up to which was looked: there one goes on looking."""
        until = time.monotonic() + timeout
        while not self._closed and not self.failed:
            seen = self._committer.commits
            try:
                with self._books:
                    handed = handing.hand_out(self._ledger, transport, choice)
            except sqlite3.Error as error:
                if is_damage(error):
                    self._committer.fail(error)
                    break
                self._committer.refuse(str(error))
                handed = Handed([], [], choice.after)
            if handed.damaged:
                self._log.error("damaged frames are set aside", transport=transport, frames=len(handed.damaged))
                self._settle_now(Settlement(damaged=handed.damaged, urgent=True))
                continue
            left = until - time.monotonic()
            if handed.frames or left <= 0:
                return handed
            if handed.seen > choice.after:
                choice = replace(choice, after=handed.seen)
                continue
            with self._committed:
                if self._committer.commits == seen and not self._closed:
                    self._committed.wait(left)
        return Handed([], [], choice.after)

    def let_go(self, published: Sequence[Held], *, wait: bool = False) -> None:
        """A broker has taken these over. Returns at once: a crash right now means only that they are sent again.

        With ``wait`` it returns when they are gone, and no look from before them finds them again.
        """
        settlement = Settlement(published=[Taken(one.id, one.stream, one.count, one.size) for one in published], urgent=wait)
        if wait:
            self._settle_now(settlement)
        else:
            self._committer.settle(settlement)

    def give_up(self, refused: Sequence[Held], reason: str) -> None:
        """Their broker will never take these: when this returns, `Dropped` records stand in their place.

        Control records among them stay, joined where they meet.
        """
        self._settle_now(Settlement(refused=refused, reason=reason, urgent=True))

    def state_of(self, application: str) -> bytes | None:
        """What a driver stored last, committed with the events before it. Raises `OutboxError`."""
        rows = self._read("SELECT value FROM states WHERE application = ?", application)
        return bytes(rows[0][0]) if rows else None

    def devices(self) -> list[tuple[str, str, str]]:
        """Application, device and channel of all that were ever emitted on. Raises `OutboxError`."""
        return self._read("SELECT application, device, channel FROM devices")

    def stranded(self) -> dict[str, int]:
        """Frames that wait for transports which nobody publishes to now, by their names. Raises `OutboxError`."""
        rows = self._read("SELECT t.name, count(*) FROM frames f JOIN transports t ON t.id = abs(f.transport) GROUP BY t.id")
        return {name: count for name, count in rows if name not in self._transports}

    def _read(self, query: str, *values: object) -> list[Any]:
        try:
            with self._books:
                return self._ledger.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if is_damage(error):
                self._committer.fail(error)
            raise failure(self.path, error) from error

    def status(self) -> OutboxState:
        """As of the last transaction."""
        with self._books:
            ledger, committer = self._ledger, self._committer
            topics = tuple(
                TopicCounts(
                    topic=one.topic,
                    transport=one.transport,
                    epoch=one.epoch,
                    next_seq=one.next_seq,
                    accepted=one.accepted,
                    published=one.published,
                    dropped=one.dropped,
                    buffered=one.buffered_events,
                    buffered_bytes=one.buffered_bytes,
                )
                for one in ledger.streams.values()
            )
            return OutboxState(
                epoch=ledger.epoch,
                topics=topics,
                dropped_by_reason=dict(ledger.dropped_by_reason),
                accepted=sum(one.accepted for one in topics),
                published=sum(one.published for one in topics),
                dropped=sum(one.dropped for one in topics),
                damaged=ledger.damaged,
                buffered_events=sum(one.buffered for one in topics),
                buffered_bytes=ledger.bytes,
                max_bytes=ledger.max_bytes,
                waiting=committer.waiting,
                refusing=str(committer.failed or committer.refusing),
            )

    def close(self, *, timeout: float = 10.0) -> None:
        """Put on disk what has come in, and close. Batches that wait for room end with an error."""
        if self._closed:
            return
        self._committer.close(timeout)
        self._closed = True
        with self._committed:
            self._committed.notify_all()
        with self._books:
            self._ledger.close()
        os.close(self._lock_file)

    def _open(self, gateway: str, max_bytes: int, transports: list[str], clock: Callable[[], int]) -> Ledger:
        if marker(self.path).exists():
            raise damaged(self.path, "this was found when it was in use last")
        for last in (False, True):
            try:
                return Ledger(self.path, gateway=gateway, max_bytes=max_bytes, now=clock(), transports=transports)
            except (sqlite3.DatabaseError, OutboxError) as error:
                if last or not is_full(error.__cause__ or error):
                    raise
                Ballast(self.path).release()  # left by the process before: now is when it is needed
        raise AssertionError

    def _settle_now(self, settlement: Settlement) -> None:
        """Settle and wait. While the disk is full this takes until there is room again, or until the outbox closes."""
        self._committer.settle(settlement)
        while not settlement.settled.wait(1.0) and not self._closed and not self.failed:
            continue


def take_lock(path: Path) -> int:
    """Be the only process that writes to the outbox ``path``; the lock goes with the descriptor. Raises `OutboxError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutboxError(f"{path.parent}: {error.strerror}", remedy="give a data directory that may be written") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OutboxError(
            f"{path}: another process has it open", remedy="stop that agent, or give this one a data directory of its own"
        ) from error
    return lock
