"""Following the results of gateways on one broker: the states of commands, whoever has issued them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final

from brokers.backoff import Backoff
from brokers.connect import connect
from brokers.contract import Delivery, QueueReader
from brokers.errors import BrokerRefused
from brokers.subscription import subscribe
from master.clock import Clock
from master.store import commands
from master.store.database import Database
from master.store.positions import StoredPositions
from schemas.command import CommandState, decode_command_state
from schemas.errors import FrameError, IoTCloudError
from schemas.topics import MASTER
from telemetry.logs import logger

_BATCH: Final = 1_000
_POLL_SECONDS: Final = 0.5
_GATHER_SECONDS: Final = 0.2


class Follower:
    """A thread that reads results topics of one broker; ``recorded`` is told how many were stored, and how many unreadable.

    A state is stored, then acknowledged: one that comes again changes nothing, so none is lost and none counts twice.
    """

    def __init__(self, url: str, database: Database, clock: Clock, recorded: Callable[[int, int], None]) -> None:
        self._url = url
        self._database = database
        self._clock = clock
        self._recorded = recorded
        self._positions = StoredPositions(database, url)
        self._topics: tuple[str, ...] = ()
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._reader: QueueReader | None = None
        # Not long: it may be one topic that fails, and the others wait meanwhile.
        self._backoff = Backoff(first=0.2, longest=3.0)
        self._log = logger("follower", broker=url)
        #: Why the broker could not be read the last time; empty when it could.
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    def follow(self, topics: Sequence[str]) -> None:
        """Follow these topics from now on, each from where it was left."""
        wanted = tuple(sorted(set(topics)))
        if wanted != self._topics:
            self._topics = wanted
            self._changed.set()

    def close(self, *, timeout: float = 5.0) -> None:
        self._closing.set()
        self._changed.set()
        reader = self._reader
        if reader is not None:
            reader.close()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._changed.is_set():
                # Gateways often register many at once, and to subscribe costs a look at every topic.
                self._closing.wait(_GATHER_SECONDS)
                self._changed.clear()
            topics = self._topics
            if not topics:
                self._changed.wait()
                continue
            try:
                self._read(topics)
            except BrokerRefused as error:
                with contextlib.suppress(Exception):
                    self._begin_anew(topics)
                self._trouble(error)
            except IoTCloudError as error:
                self._trouble(error)
            except Exception as error:  # noqa: BLE001 - the thread must live as long as the process
                self._log.exception("results could not be followed")
                self._trouble(error)

    def _read(self, topics: Sequence[str]) -> None:
        reader = subscribe(connect(self._url), topics, group=MASTER, positions=self._positions, start="beginning")
        self._reader = reader
        try:
            while not self._closing.is_set() and not self._changed.is_set():
                deliveries = reader.poll(max_messages=_BATCH, timeout=_POLL_SECONDS)
                self._backoff.reset()
                self.trouble = ""
                if deliveries:
                    self._store(deliveries)
                    reader.acknowledge(deliveries)
        finally:
            self._reader = None
            reader.close()

    def _begin_anew(self, topics: Sequence[str]) -> None:
        """Forget the positions that lie beyond the end of their log: it was replaced. Reading it from its beginning is safe.

        What else is refused, a topic one may not read, say, tells nothing about positions. Raises `BrokerError`.
        """
        broker = connect(self._url)
        stored = self._positions.stored(set(topics)) if broker.capabilities.log else {}
        if not stored:
            return
        with contextlib.closing(broker.log_reader()) as reader:
            for (topic, partition), position in stored.items():
                with contextlib.suppress(BrokerRefused):
                    end = reader.end_offset(topic, partition)
                    if position > end:
                        self._log.warning("a log was replaced", topic=topic, partition=partition, position=position, end=end)
                        self._positions.forget([(topic, partition)])

    def _store(self, deliveries: Sequence[Delivery]) -> None:
        states: list[CommandState] = []
        for delivery in deliveries:
            try:
                states.append(decode_command_state(delivery.value))
            except FrameError as error:
                self._log.warning("unreadable result", topic=delivery.topic, problem=str(error))
        if states:
            with self._database.write() as connection:
                commands.record(connection, states, time=self._clock.wall())
        self._recorded(len(states), len(deliveries) - len(states))

    def _trouble(self, error: Exception) -> None:
        if self._closing.is_set():
            return
        self.trouble = str(error)
        pause = self._backoff.next()
        self._log.warning("broker", problem=self.trouble, again_in=round(pause, 2))
        self._closing.wait(pause)
