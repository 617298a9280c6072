"""What a child has emitted and the agent has not on disk yet: batches, and the credit that bounds them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from gateway_agent.driver import Stopped
from gateway_agent.host.messages import MAX_BATCH_BYTES, MAX_BATCHES, MAX_BYTES, Events, Group
from schemas.errors import SchemaError

#: A batch is sent when it has so many events or bytes, or when its first event is so many seconds old.
_FULL_EVENTS: Final = 1_000
_FULL_BYTES: Final = 128 * 1024
_AGE: Final = 0.005


#: Channel, device, device in the topic, and the encoded event: what `Outgoing.add` takes.
Encoded = tuple[str, str, str, bytes]
#: Of many events, so many, or so many bytes of them, go into one batch for certain.
PART_EVENTS: Final = 1_000
PART_BYTES: Final = MAX_BATCH_BYTES // 2


class Durable(Protocol):
    """The state that goes with a batch; it can be put back to what it was."""

    def encoded(self) -> bytes: ...

    def remember(self) -> object: ...

    def put_back(self, remembered: object) -> None: ...


@dataclass(frozen=True, slots=True)
class _Mark:
    """How much there was when `together` began."""

    lengths: dict[tuple[str, str], int]
    events: int
    bytes: int
    devices: int
    dirty: bool
    state: object


class Outgoing:
    """Collects events into batches. ``send`` sends one, with the ``state`` if it has changed."""

    def __init__(self, send: Callable[[Events], None], state: Durable) -> None:
        self._send = send
        self._state = state
        #: Held by the thread that emits; for the whole of `together`.
        self._gate = threading.RLock()
        self._depth = 0
        self._groups: dict[tuple[str, str], list[bytes]] = {}
        self._devices: list[tuple[str, str]] = []
        self._seen: set[tuple[str, str]] = set()
        self._events = 0
        self._bytes = 0
        self._dirty = False
        self._number = 0
        self._credit = threading.Condition()
        self._under_way: deque[tuple[int, int]] = deque()
        self._bytes_under_way = 0
        self._lost = False
        self._some = threading.Event()
        self._waiting = 0
        threading.Thread(target=self._send_what_is_old, name="flush", daemon=True).start()

    @property
    def waiting(self) -> bool:
        """Whether a thread waits for the agent's disk: then it is not the driver that hangs."""
        return self._waiting > 0

    def add(self, channel: str, device: str, topic_device: str, tail: bytes) -> None:
        """Add an event; waits while the agent's disk is behind. ``topic_device`` is empty when all share a topic."""
        with self._gate:
            if self._depth and self._bytes + len(tail) > MAX_BATCH_BYTES:
                raise SchemaError(
                    f"channel {channel!r}: more than {MAX_BATCH_BYTES} bytes are to become durable together",
                    remedy="emit fewer events in one 'together'",
                )
            key = (channel, topic_device)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = []
            group.append(tail)
            self._events += 1
            self._bytes += len(tail)
            if (device, channel) not in self._seen:
                self._seen.add((device, channel))
                self._devices.append((device, channel))
            self._changed()

    def add_many(self, events: Sequence[Encoded]) -> None:
        """Add events in parts that are one batch each; inside of `together` all of them, or after an error none."""
        with self._gate:
            for part in [events] if self._depth else _parts(events):
                if self._bytes + sum(len(tail) for *_, tail in part) > MAX_BATCH_BYTES:
                    self.flush()
                with self.together():
                    for one in part:
                        self.add(*one)

    def state_changed(self) -> None:
        with self._gate:
            self._dirty = True
            self._changed()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is added inside goes into one batch; after an exception nothing of it. Inside of another it is part of that."""
        with self._gate:
            if not self._depth and self._bytes > MAX_BATCH_BYTES - PART_BYTES:
                self._flush()
            mark = self._mark()
            self._depth += 1
            try:
                yield
            except BaseException:
                self._return_to(mark)
                raise
            finally:
                self._depth -= 1
                self._changed()

    def flush(self) -> None:
        """Send what there is, unless in the middle of `together`."""
        with self._gate:
            if not self._depth:
                self._flush()

    def wait(self, timeout: float) -> bool:
        """Wait until all that was sent is on disk; False after ``timeout`` seconds. Raises `Stopped`."""
        until = time.monotonic() + timeout
        with self._credit:
            while self._under_way and not self._lost:
                left = until - time.monotonic()
                if left <= 0 or not self._wait_for_credit(left):
                    return not self._under_way
            self._check()
            return True

    def acknowledged(self, number: int) -> None:
        with self._credit:
            while self._under_way and self._under_way[0][0] <= number:
                self._bytes_under_way -= self._under_way.popleft()[1]
            self._credit.notify_all()

    def lost(self) -> None:
        """The agent is gone: nothing more can be emitted."""
        with self._credit:
            self._lost = True
            self._credit.notify_all()

    def _changed(self) -> None:
        if self._depth:
            return
        if self._events >= _FULL_EVENTS or self._bytes >= _FULL_BYTES:
            self._flush()
        elif not self._some.is_set():
            self._some.set()

    def _mark(self) -> _Mark:
        lengths = {key: len(tails) for key, tails in self._groups.items()}
        return _Mark(lengths, self._events, self._bytes, len(self._devices), self._dirty, self._state.remember())

    def _return_to(self, mark: _Mark) -> None:
        self._groups = {key: self._groups[key][:length] for key, length in mark.lengths.items()}
        self._events, self._bytes, self._dirty = mark.events, mark.bytes, mark.dirty
        self._seen.difference_update(self._devices[mark.devices :])
        del self._devices[mark.devices :]
        self._state.put_back(mark.state)

    def _flush(self) -> None:
        if not self._events and not self._dirty:
            return
        self._take_credit()
        groups = [Group(channel, device, tails) for (channel, device), tails in self._groups.items()]
        self._send(Events(self._number, groups, self._state.encoded() if self._dirty else None, self._devices))
        self._groups, self._devices = {}, []
        self._events = self._bytes = 0
        self._dirty = False

    def _take_credit(self) -> None:
        with self._credit:
            while (
                len(self._under_way) >= MAX_BATCHES or (self._under_way and self._bytes_under_way + self._bytes > MAX_BYTES)
            ) and not self._lost:
                self._wait_for_credit(None)
            self._check()
            self._number += 1
            self._under_way.append((self._number, self._bytes))
            self._bytes_under_way += self._bytes

    def _wait_for_credit(self, timeout: float | None) -> bool:
        self._waiting += 1
        try:
            return self._credit.wait(timeout)
        finally:
            self._waiting -= 1

    def _check(self) -> None:
        if self._lost:
            raise Stopped("the agent is gone")

    def _send_what_is_old(self) -> None:
        while True:
            self._some.wait()
            time.sleep(_AGE)
            try:
                with self._gate:
                    self._some.clear()
                    self.flush()
            except Exception:  # noqa: BLE001  (the agent is gone: the process ends)
                return


def _parts(events: Sequence[Encoded]) -> Iterator[Sequence[Encoded]]:
    begin = size = 0
    for at, one in enumerate(events):
        size += len(one[-1])
        if at > begin and (at - begin == PART_EVENTS or size > PART_BYTES):
            yield events[begin:at]
            begin, size = at, len(one[-1])
    if events:
        yield events[begin:]
