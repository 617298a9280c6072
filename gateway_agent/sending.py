"""Sending frames to a broker, and settling with the outbox what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from brokers import Broker, BrokerRefused, Message, PublishError
from brokers.contract import Publisher
from gateway_agent.outbox import Held, Outbox
from gateway_agent.outbox.records import REFUSED
from telemetry.logs import logger

#: Seconds a broker has to take over what it is given.
_PUBLISH_WITHIN: Final = 30.0


class Left(NamedTuple):
    """What an attempt left of a topic: all up to the frame ``after`` is done with. ``failed``, or else given up."""

    topic: str
    after: int
    failed: bool


class Outcome(NamedTuple):
    """Of an attempt: whether the broker has decided on anything, and what is left, by stream; why."""

    heard: bool
    left: dict[int, Left]
    error: Exception | None = None


class Sender:
    """Used by one thread; any may `close` it, which ends an attempt under way."""

    def __init__(
        self, broker: Broker, outbox: Outbox, *, gateway: str, groups: Sequence[str], report: Callable[[str, str], None]
    ) -> None:
        self._broker = broker
        self._outbox = outbox
        self._gateway = gateway
        self._groups = tuple(groups)
        self._kept: set[str] = set()
        self._report = report
        self._log = logger("publisher", broker=broker.url)
        self._publisher: Publisher | None = None
        #: Attempts after which something was left to be tried again.
        self.failures = 0

    def close(self) -> None:
        publisher = self._publisher
        if publisher is not None:
            publisher.close()

    def attempt(self, frames: Sequence[Held], *, wait: bool = False) -> Outcome:
        """Publish frames, and have the outbox settle what came of it; at once when asked to ``wait``."""
        try:
            self._publish(frames)
        except PublishError as error:
            outcome = self._sorted(frames, error, wait=wait)
        except Exception as error:  # noqa: BLE001  (a broker's client may raise anything; this thread must go on)
            outcome = Outcome(False, _left(frames, range(len(frames)), frozenset()), error)
        else:
            self._outbox.let_go(frames, wait=wait)
            return Outcome(True, {})
        if any(left.failed for left in outcome.left.values()):
            self.failures += 1
            self.forget()
        return outcome

    def _sorted(self, frames: Sequence[Held], error: PublishError, *, wait: bool) -> Outcome:
        """Let go of what was taken, give up what never will be."""
        missing, refused = set(error.unacknowledged), set(error.refused)
        taken = [frame for index, frame in enumerate(frames) if index not in missing]
        if taken:
            self._outbox.let_go(taken, wait=wait)
        given_up = [frame for index, frame in enumerate(frames) if index in refused]
        if given_up:
            if events := sum(frame.count for frame in given_up):
                self._log.error("the broker will never take some events: dropped", events=events, reason=error.message)
                self._report("frames_refused", error.message)
            self._outbox.give_up(given_up, REFUSED)
        # Where events were given up stand records now, to be looked at in their order. Records that are refused stay.
        replaced = frozenset(index for index in refused if frames[index].count)
        return Outcome(bool(taken or refused), _left(frames, sorted(missing), replaced), error)

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

    def forget(self) -> None:
        """The next attempt connects anew."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            with contextlib.suppress(Exception):
                publisher.close()


def _left(frames: Sequence[Held], missing: Iterable[int], replaced: frozenset[int]) -> dict[int, Left]:
    """By stream: from which frame on to try again, and whether any but those that were ``replaced`` is missing."""
    left: dict[int, Left] = {}
    for index in missing:
        frame = frames[index]
        before = left.get(frame.stream, Left(frame.topic, frame.id - 1, failed=False))
        left[frame.stream] = before._replace(failed=before.failed or index not in replaced)
    return left
