"""Publishing commands on one broker: in order, again and again until the broker has them or their deadline passes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import Final

from brokers.backoff import Backoff
from brokers.connect import connect
from brokers.contract import Message, Publisher
from brokers.errors import BrokerError, BrokerRefused, PublishError
from master import views
from master.clock import Clock
from master.errors import Busy
from master.store import commands
from master.store.database import Database
from schemas.command import Command, encode_command
from schemas.errors import ConfigurationError
from schemas.topics import commands_topic
from telemetry.logs import logger

#: Commands that may wait for one broker.
MAX_WAITING: Final = 10_000
_BATCH: Final = 500
#: Seconds a broker may take for one batch.
_PUBLISH_WITHIN: Final = 10.0


class Sender:
    """A thread that publishes the commands for one broker. What became of each is recorded in the database."""

    def __init__(self, url: str, database: Database, clock: Clock) -> None:
        self._url = url
        self._database = database
        self._clock = clock
        self._queue: queue.Queue[Command | None] = queue.Queue(MAX_WAITING)
        self._closing = threading.Event()
        self._publisher: Publisher | None = None
        self._backoff = Backoff(first=0.2, longest=15.0)
        self._log = logger("sender", broker=url)
        #: Why the broker could not be used the last time; empty when it could.
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be sent."""
        return self._queue.unfinished_tasks == 0

    def send(self, command: Command) -> None:
        """Take over a command that was written down. Raises `Busy`."""
        try:
            self._queue.put_nowait(command)
        except queue.Full:
            raise Busy(f"{MAX_WAITING} commands wait for {self._url}", remedy="is the broker there?") from None

    def close(self, *, timeout: float = 5.0) -> None:
        """Stop; what is waiting is sent by the next process that opens the database."""
        self._closing.set()
        publisher = self._publisher
        if publisher is not None:
            publisher.close()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        waiting: list[Command] = []
        while not self._closing.is_set():
            try:
                waiting += self._take(block=not waiting, room=_BATCH - len(waiting))
                if waiting:
                    before = len(waiting)
                    waiting = self._publish(self._drop_overdue(waiting))
                    for _ in range(before - len(waiting)):
                        self._queue.task_done()
            except Exception:  # noqa: BLE001 - the thread must live as long as the process
                # The database is full or gone: nothing is given up, and the next attempt may find it well.
                self._log.exception("commands could not be sent")
                self._closing.wait(self._backoff.next())

    def _take(self, *, block: bool, room: int) -> list[Command]:
        found: list[Command] = []
        while len(found) < room:
            try:
                command = self._queue.get(block=block and not found, timeout=1.0)
            except queue.Empty:
                break
            if command is None:
                self._queue.task_done()
                break
            found.append(command)
        return found

    def _drop_overdue(self, waiting: list[Command]) -> list[Command]:
        now = self._clock.wall()
        overdue = [command for command in waiting if command.deadline <= now]
        if overdue:
            reason = "its deadline passed before a broker took it" + (f": {self.trouble}" if self.trouble else "")
            self._reach(overdue, views.UNSENT, reason)
        return [command for command in waiting if command.deadline > now]

    def _publish(self, waiting: list[Command]) -> list[Command]:
        """Try once; what has to be tried again."""
        if not waiting:
            return []
        messages = [Message(commands_topic(one.gateway), one.device, encode_command(one)) for one in waiting]
        try:
            if self._publisher is None:
                self._publisher = connect(self._url).publisher()
            self._publisher.publish(messages, timeout=_PUBLISH_WITHIN)
        except PublishError as error:
            return self._sort_out(waiting, error)
        except (BrokerRefused, ConfigurationError) as error:
            self._trouble(error)
            self._reach(waiting, views.UNSENT, str(error))
            return []
        except BrokerError as error:
            self._trouble(error)
            return waiting
        self._backoff.reset()
        self.trouble = ""
        self._reach(waiting, views.SENT, "")
        return []

    def _sort_out(self, waiting: list[Command], error: PublishError) -> list[Command]:
        open_positions = set(error.unacknowledged)
        refused = set(error.refused)
        self._reach([one for at, one in enumerate(waiting) if at not in open_positions], views.SENT, "")
        self._reach([waiting[at] for at in sorted(refused)], views.UNSENT, str(error))
        again = [one for at, one in enumerate(waiting) if at in open_positions and at not in refused]
        if again:
            self._trouble(error)
        return again

    def _trouble(self, error: Exception) -> None:
        self.trouble = str(error)
        pause = self._backoff.next()
        self._log.warning("broker", problem=self.trouble, again_in=round(pause, 2))
        self._closing.wait(pause)

    def _reach(self, reached: Sequence[Command], state: str, detail: str) -> None:
        if reached:
            with self._database.write() as connection:
                commands.reach(connection, [one.id for one in reached], state, detail, time=self._clock.wall())
