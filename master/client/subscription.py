"""Events of one channel of one device, read from the broker as they come."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

from brokers.backoff import Backoff
from brokers.connect import connect
from brokers.contract import Delivery
from brokers.errors import BrokerError, BrokerUnavailable
from brokers.subscription import subscribe
from master.client.catalogue import Catalogue
from master.client.errors import MasterError, MasterUnavailable
from schemas.control import is_control
from schemas.errors import ConfigurationError, FrameError
from schemas.frame import decode_frame, frame_fingerprint, identity
from telemetry.logs import logger

Start = Literal["now", "beginning"]

_BATCH: Final = 100
#: Seconds one look at the broker may last, so that `Subscription.close` and time-outs are noticed.
_LOOK: Final = 0.5
_FORGET_WITHIN: Final = 5.0
#: Frames remembered, to drop those that a gateway has sent twice.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message of the topic that is not a frame one can read, and why."""

    topic: str
    reason: str
    value: bytes


class Subscription:
    """An iterator of decoded events: dicts of the schema's fields, times as aware datetimes in UTC.

    It ends when no event has come for ``timeout`` seconds (never, when that is None), at an error that trying again does
    not help, or when it is closed; each closes it, and the broker forgets it. Leave a loop over it early, and only
    `close`, or the end of its ``with`` block, does that: until then a queue keeps events for it. Begins
    with what is published after it was made, or with everything the broker keeps. A frame that is damaged or
    of an unknown schema is passed to ``unreadable``, or logged, and skipped; one that was sent twice comes once.
    While the broker is away it tries again, for as long as ``timeout`` allows.
    Raises `brokers.errors.BrokerError` and `master.client.MasterRefused`. For one thread, but for `close`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        broker_url: str,
        topic: str,
        *,
        device: str,
        channel: str,
        start: Start = "now",
        timeout: float | None = None,
        unreadable: Callable[[Unreadable], None] | None = None,
    ) -> None:
        if start not in ("now", "beginning"):
            raise ConfigurationError(f"start={start!r} is not a place to start", remedy='"now" or "beginning"')
        self._catalogue = catalogue
        self._topic = topic
        self._wanted = (device, channel)
        self._timeout = timeout
        self._log = logger("subscription", broker=broker_url, topic=topic)
        self._unreadable = unreadable or self._warn
        self._events: deque[dict[str, Any]] = deque()
        self._seen: OrderedDict[object, None] = OrderedDict()
        self._backoff = Backoff(first=0.1, longest=5.0)
        self._closed = False
        self._broker = connect(broker_url)
        self._group = f"iotcloud-client-{device}-{channel}-{time.time_ns()}"
        self._reader = subscribe(self._broker, [topic], group=self._group, start="beginning" if start == "beginning" else "end")
        try:
            # The first look settles where "now" is.
            self._take(self._reader.poll(max_messages=_BATCH, timeout=0.0))
        except BaseException:
            # Nobody else can close it; a queue may know its group by now.
            self.close()
            raise

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._events:
            left = _LOOK if until is None else min(_LOOK, until - time.monotonic())
            if self._closed or left <= 0:
                self.close()
                raise StopIteration
            try:
                self._take(self._reader.poll(max_messages=_BATCH, timeout=left))
                self._backoff.reset()
            except (BrokerUnavailable, MasterUnavailable) as error:
                if self._closed:
                    raise StopIteration from None
                pause = self._backoff.next()
                self._log.warning("unavailable", problem=str(error), again_in=round(pause, 2))
                time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))
            except (BrokerError, MasterError):
                self.close()
                raise
        return self._events.popleft()

    def close(self) -> None:
        """End the iteration; may be called from any thread. A queue keeps nothing for it any more, if it can be told."""
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        try:
            self._broker.forget([self._topic], group=self._group, timeout=_FORGET_WITHIN)
        except BrokerError as error:
            self._log.warning("the broker may keep events for a reader that has gone", group=self._group, problem=str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        for position, delivery in enumerate(deliveries):
            try:
                self._events.extend(self._decode(delivery.value))
            except FrameError as error:
                self._unreadable(Unreadable(self._topic, str(error), delivery.value))
            except MasterUnavailable:
                # Its schema cannot be had now: this frame and those after it come again.
                self._reader.acknowledge(deliveries[:position])
                self._reader.reject(deliveries[position:])
                raise
        if deliveries:
            self._reader.acknowledge(deliveries)

    def _decode(self, frame: bytes) -> list[dict[str, Any]]:
        if is_control(frame):
            return []
        self._catalogue.ensure(frame_fingerprint(frame))
        events = decode_frame(frame, self._catalogue.schemas).events
        if self._is_repeated(identity(events)):
            return []
        return [event for event in events if (event["device"], event["channel"]) == self._wanted]

    def _is_repeated(self, frame: object) -> bool:
        if frame in self._seen:
            return True
        self._seen[frame] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _warn(self, unreadable: Unreadable) -> None:
        self._log.warning("skipped a frame", problem=unreadable.reason, bytes=len(unreadable.value))
