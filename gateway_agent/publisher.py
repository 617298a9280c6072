"""Publishing what the outbox holds: one thread per transport, topic by topic in order, until the broker has taken it over.

All topics go together. When an attempt fails, it may be that the broker is away, or that it does not take these topics. As
soon as it takes anything else, those that failed go by themselves (`gateway_agent.lanes`), each with pauses of its own, and
the others go on; until then the transport waits as a whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final, Literal

from brokers import Broker, BrokerRefused
from brokers.backoff import Backoff
from gateway_agent.lanes import Lane, Lanes
from gateway_agent.outbox import Choice, Held, Outbox
from gateway_agent.sending import Sender
from telemetry.logs import logger

#: Seconds to wait for new frames before looking around.
_LOOK_EVERY: Final = 0.25
#: Topics that are tried between two attempts while nothing is taken: it may be another that the broker takes.
_PROBES: Final = 4

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
        self._outbox = outbox
        self._report = report
        self._sender = Sender(broker, outbox, gateway=gateway, groups=groups, report=report)
        self._log = logger("publisher", transport=name, broker=broker.url)
        self._stopping = threading.Event()
        self._pauses = Backoff(0.1, 30.0)
        #: Where to look for more, and what is tried next: portions of topics of their own when all together have failed.
        self._after = -1
        self._pending: list[list[Held]] = []
        self._lanes = Lanes()
        #: While nothing is taken: other topics that were tried, by the frame, longest ago first; where to look for others.
        self._probed: dict[int, int] = {}
        self._ahead = -1
        self._thread = threading.Thread(target=self._run, name=f"publish-{name}", daemon=True)
        #: How it is, and since when or why.
        self.state: State = "idle"
        self.detail = ""

    @property
    def failures(self) -> int:
        """Attempts after which something was left to be tried again."""
        return self._sender.failures

    @property
    def waiting(self) -> dict[str, str]:
        """Why topics wait that the broker does not take while it takes others, by topic."""
        return self._lanes.reasons()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop at once; what is under way is sent again another time."""
        self._stopping.set()
        self._sender.close()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if lane := self._lanes.due():
                self._try_lane(lane)
            if self._pending:
                self._try_pending()
            elif not self._lanes.catching_up and not self._look() and self._outbox.failed:
                break
        self._sender.forget()

    def _look(self) -> bool:
        """Look for more; whether there is anything."""
        timeout = 0.0 if self._lanes.due() else _LOOK_EVERY
        found = self._outbox.pick(self.name, Choice(self._after, without=self._lanes.streams), timeout=timeout)
        self._after = self._ahead = found.seen
        if found.frames:
            self._pending = [found.frames]
        else:
            self._set("idle" if self.state == "publishing" else self.state, self.detail)
        return bool(found.frames)

    def _try_pending(self) -> None:
        outcome = self._sender.attempt(self._pending[0])
        if outcome.heard:
            del self._pending[0]
            for stream, left in outcome.left.items():
                lane = self._lanes.open(stream, left.topic, left.after)
                if left.failed:
                    self._put_off(lane, left.after, outcome.error)
            self._heard()
            return
        first, *others = self._pending
        by_topic = [list(frames) for _, frames in groupby(sorted(first, key=_stream), key=_stream)]
        self._pending = [*others, *by_topic]
        self._wait(self._unavailable(outcome.error))

    def _try_lane(self, lane: Lane) -> None:
        found = self._outbox.pick(self.name, Choice(lane.after, only=lane.stream, up_to=self._after))
        if not found.frames:
            lane.after = found.seen
            if found.seen >= self._after:
                self._lanes.close(lane)
            return
        outcome = self._sender.attempt(found.frames)
        left = outcome.left.get(lane.stream)
        if left is not None and left.failed:
            self._put_off(lane, left.after, outcome.error)
        else:
            if lane.reason:
                self._log.info("the broker takes a topic again", topic=lane.topic)
                self._report("topic_available", f"{self.name}: {lane.topic}")
            self._lanes.go_on(lane, left.after if left else found.frames[-1].id)
        if outcome.heard:
            self._heard()

    def _wait(self, pause: float) -> None:
        """Nothing is taken. Wait, but try topics that have not been tried, for they may be taken."""
        until = time.monotonic() + pause
        if self._probed:
            stream = next(iter(self._probed))
            number = self._probed.pop(stream)
            self._probe(Choice(number - 1, only=stream, up_to=number))
        tried = 0
        while self._pending and tried < _PROBES and not self._stopping.is_set() and not self._outbox.failed:
            left = until - time.monotonic()
            if left <= 0:
                return
            choice = Choice(self._ahead, without=self._untaken(), ahead=True, max_frames=1)
            tried += self._probe(choice, timeout=min(_LOOK_EVERY, left))
        if self._pending:
            self._stopping.wait(max(0.0, until - time.monotonic()))

    def _untaken(self) -> frozenset[int]:
        return self._lanes.streams | {portion[0].stream for portion in self._pending} | self._probed.keys()

    def _probe(self, choice: Choice, timeout: float = 0.0) -> bool:
        """Try a frame of a topic, out of turn; whether there is one."""
        found = self._outbox.pick(self.name, choice, timeout=timeout)
        if choice.ahead:
            self._ahead = found.seen
        for frame in found.frames:
            if self._sender.attempt([frame], wait=True).heard:
                self._heard()
            else:
                self._probed[frame.stream] = frame.id
        return bool(found.frames)

    def _heard(self) -> None:
        """The broker is there. What it did not take meanwhile goes by itself until it has caught up."""
        for portion in self._pending:
            self._lanes.open(portion[0].stream, portion[0].topic, portion[0].id - 1)
        self._pending = []
        self._probed.clear()
        self._ahead = self._after
        self._recovered()

    def _unavailable(self, error: Exception | None) -> float:
        """Nothing is taken; returns the seconds to wait."""
        if self._stopping.is_set():
            return 0.0  # its publisher was closed, and says so
        pause = self._pauses.next()
        state: State = "refused" if isinstance(error, BrokerRefused) else "unavailable"
        if self.state != state:
            self._log.warning(
                "the broker does not take frames; they stay in the outbox", reason=str(error), again_in=round(pause, 2)
            )
            self._report(f"transport_{state}", f"{self.name}: {error}")
        self._set(state, str(error))
        return pause

    def _put_off(self, lane: Lane, after: int, error: Exception | None) -> None:
        if self._stopping.is_set():
            return
        reason, known = str(error), bool(lane.reason)
        pause = self._lanes.put_off(lane, after, reason)
        if not known:
            self._log.warning(
                "the broker does not take a topic; others go on", topic=lane.topic, reason=reason, again_in=round(pause, 2)
            )
            self._report("topic_unavailable", f"{self.name}: {lane.topic}: {reason}")

    def _recovered(self) -> None:
        self._pauses.reset()
        if self.state in ("unavailable", "refused"):
            self._log.info("the broker takes frames again", failures=self.failures)
            self._report("transport_available", self.name)
        self._set("publishing", "")

    def _set(self, state: State, detail: str) -> None:
        self.state, self.detail = state, detail


def _stream(frame: Held) -> int:
    return frame.stream


def drained(outbox: Outbox, within: float) -> bool:
    """Wait until the outbox holds nothing; False after ``within`` seconds."""
    until = time.monotonic() + within
    while outbox.status().buffered_bytes:
        if outbox.failed or time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True
