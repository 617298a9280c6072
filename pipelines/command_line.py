"""Commands on their way to one broker, in a thread of their own, so that a broker that is away holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from brokers import Message, Publisher, connect
from brokers.backoff import Backoff
from brokers.errors import PublishError
from pipelines.rule_memory import JobRuleMemory, Pending
from schemas.command import encode_command
from schemas.errors import IoTCloudError
from schemas.topics import commands_topic
from telemetry.logs import logger

#: Seconds a broker has to take commands, before the line pauses and tries again.
PUBLISH_SECONDS: Final = 10.0
PUBLISHED: Final = "published"
REFUSED: Final = "refused"


class CommandLine:
    """Publishes what it is given to the broker at ``url`` and notes in ``memory`` what became of it; then calls ``finished``.

    ``clock`` gives µs since 1970, UTC.
    """

    def __init__(self, url: str, memory: JobRuleMemory, clock: Callable[[], int], finished: Callable[[str, int], None]) -> None:
        self._url = url
        self._memory = memory
        self._clock = clock
        self._finished = finished
        self._publisher: Publisher | None = None
        self._backoff = Backoff(first=0.05, longest=10.0)
        self._not_before = 0.0
        self._given: list[Pending] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="commands-line", daemon=True)
        self._thread.start()

    def give(self, waiting: Sequence[Pending]) -> float:
        """Publish these, in order, unless the line is busy or pausing: then give them again, in as many seconds as returned."""
        with self._changed:
            pause = self._not_before - time.monotonic()
            if pause > 0:
                return pause
            if not self._given:
                self._given = list(waiting)
                self._changed.notify()
            return PUBLISH_SECONDS

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._publisher is not None:
            self._publisher.close()
        self._thread.join(timeout=PUBLISH_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._given or self._closing)
                if self._closing:
                    return
                waiting = self._given
            number = 0
            try:
                number = self._publish(waiting)
            except Exception as error:  # noqa: BLE001  (a line that died would hold its commands for good)
                self._pause(error)
            with self._changed:
                self._given = []
            self._finished(PUBLISHED, number)

    def _publish(self, waiting: list[Pending]) -> int:
        """How many the broker has taken."""
        messages = [
            Message(commands_topic(command.gateway), command.device, encode_command(command))
            for found in waiting
            if (command := found.fired.command) is not None
        ]
        try:
            if self._publisher is None:
                self._publisher = connect(self._url).publisher()
            self._publisher.publish(messages, timeout=PUBLISH_SECONDS)
        except PublishError as error:
            taken = [found.number for place, found in enumerate(waiting) if place not in error.unacknowledged]
            self._memory.ordered(taken, PUBLISHED, published_at=self._clock())
            self._memory.ordered([waiting[place].number for place in error.refused], REFUSED, detail=error.message)
            if set(error.unacknowledged) - set(error.refused):
                self._pause(error)
            return len(taken)
        except IoTCloudError as error:
            self._pause(error)
            return 0
        self._memory.ordered([found.number for found in waiting], PUBLISHED, published_at=self._clock())
        self._backoff.reset()
        return len(waiting)

    def _pause(self, error: Exception) -> None:
        pause = self._backoff.next()
        logger("commands").warning("not published, trying again", broker=self._url, pause=round(pause, 2), error=str(error))
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        with self._changed:
            self._not_before = time.monotonic() + pause
