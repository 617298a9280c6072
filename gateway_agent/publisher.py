"""Publishing what the outbox holds: one thread per transport, in order, until the broker has taken it over."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

from brokers import Broker, BrokerError, BrokerRefused, Message, PublishError
from brokers.backoff import Backoff
from brokers.contract import Publisher
from gateway_agent.outbox import Held, Outbox
from gateway_agent.outbox.records import REFUSED
from telemetry.logs import logger

#: Seconds a broker has to take over what it is given, and to wait for new frames before looking around.
_PUBLISH_WITHIN: Final = 30.0
_LOOK_EVERY: Final = 0.25

State = Literal["idle", "publishing", "unavailable", "refused"]


class TransportPublisher:
    """Publishes the frames of one transport, beginning with the oldest. It never gives up: the outbox keeps them."""

    def __init__(
        self,
        name: str,
        broker: Broker,
        outbox: Outbox,
        *,
        gateway: str,
        groups: Sequence[str],
        report: Callable[[str, str], None] = lambda _kind, _detail: None,
    ) -> None:
        self.name = name
        self._broker = broker
        self._outbox = outbox
        self._gateway = gateway
        self._groups = tuple(groups)
        self._kept: set[str] = set()
        self._report = report
        self._log = logger("publisher", transport=name, broker=broker.url)
        self._stopping = threading.Event()
        self._publisher: Publisher | None = None
        self._pauses = Backoff(0.1, 30.0)
        self._thread = threading.Thread(target=self._run, name=f"publish-{name}", daemon=True)
        #: How it is, and since when or why.
        self.state: State = "idle"
        self.detail = ""
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop at once; what is under way is sent again another time."""
        self._stopping.set()
        publisher = self._publisher
        if publisher is not None:
            publisher.close()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        after = -1
        pending: list[Held] = []
        while not self._stopping.is_set():
            if not pending:
                pending = self._outbox.hand_out(self.name, after=after, timeout=_LOOK_EVERY)
                if not pending:
                    self._set("idle" if self.state == "publishing" else self.state, self.detail)
                    if self._outbox.failed:
                        break
                    continue
            try:
                self._publish(pending)
            except PublishError as error:
                pending, after = self._after_failure(pending, error)
            except BrokerError as error:
                self._unavailable(error)
            except Exception as error:  # noqa: BLE001  (a broker's client may raise anything; this thread must go on)
                self._unavailable(error)
            else:
                self._outbox.let_go(pending)
                after, pending = max(after, pending[-1].id), []
                self._recovered()
        self._forget_publisher()

    def _publish(self, frames: Sequence[Held]) -> None:
        self._keep({frame.topic for frame in frames} - self._kept)
        if self._publisher is None:
            self._publisher = self._broker.publisher()
        messages = [Message(frame.topic, self._gateway, frame.body) for frame in frames]
        self._publisher.publish(messages, timeout=_PUBLISH_WITHIN)

    def _keep(self, topics: set[str]) -> None:
        """Before the first frame of a topic goes out: what is published is kept for those who shall read it."""
        for topic in sorted(topics):
            for group in self._groups:
                try:
                    self._broker.keep([topic], group=group, timeout=_PUBLISH_WITHIN)
                except BrokerRefused as error:
                    # Whoever has not the right to make it may find it made by who has.
                    self._log.warning("not known to be kept for a group", topic=topic, group=group, reason=str(error))
                    self._report("not_kept", f"{topic} for {group}: {error}")
            self._kept.add(topic)

    def _after_failure(self, frames: list[Held], error: PublishError) -> tuple[list[Held], int]:
        """What to publish next, and behind which frame to look for more then."""
        after = frames[-1].id
        missing, refused = set(error.unacknowledged), set(error.refused)
        self._outbox.let_go([frame for index, frame in enumerate(frames) if index not in missing])
        left = [frame for index, frame in enumerate(frames) if index in missing]
        if refused:
            given_up = [frame for index, frame in enumerate(frames) if index in refused]
            self._log.error("the broker will never take some frames: dropped", frames=len(given_up), reason=error.message)
            self._report("frames_refused", error.message)
            self._outbox.give_up(given_up, REFUSED)
            # In their places stand other records now: look at them again, in their order.
            left, after = [], min(frame.id for frame in left) - 1
        if missing - refused:
            self._unavailable(error)
        return left, after

    def _unavailable(self, error: Exception) -> None:
        if self._stopping.is_set():
            return  # its publisher was closed, and says so
        pause = self._pauses.next()
        self.failures += 1
        state: State = "refused" if isinstance(error, BrokerRefused) else "unavailable"
        if self.state != state:
            self._log.warning(
                "the broker does not take frames; they stay in the outbox", reason=str(error), again_in=round(pause, 2)
            )
            self._report(f"transport_{state}", f"{self.name}: {error}")
        self._set(state, str(error))
        self._forget_publisher()
        self._stopping.wait(pause)

    def _recovered(self) -> None:
        self._pauses.reset()
        if self.state in ("unavailable", "refused"):
            self._log.info("the broker takes frames again", failures=self.failures)
            self._report("transport_available", self.name)
        self._set("publishing", "")

    def _set(self, state: State, detail: str) -> None:
        self.state, self.detail = state, detail

    def _forget_publisher(self) -> None:
        """The next attempt connects anew."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            with contextlib.suppress(Exception):
                publisher.close()


def drained(outbox: Outbox, within: float) -> bool:
    """Wait until the outbox holds nothing; False after ``within`` seconds."""
    until = time.monotonic() + within
    while outbox.status().buffered_bytes:
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True
