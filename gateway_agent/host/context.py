"""The context that a driver runs with, on the child's side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from gateway_agent.driver import Event
from gateway_agent.host.encoding import Encoder, microseconds
from gateway_agent.host.messages import Line, Message, Rejected
from gateway_agent.host.outgoing import Outgoing
from gateway_agent.host.state import DurableState
from schemas.errors import ConfigurationError, SchemaError

if TYPE_CHECKING:
    from gateway_agent.serial_port import SerialPort


class ChildLog:
    """Lines that the agent writes."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def debug(self, event: str, **fields: object) -> None:
        self._line("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._line("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._line("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._line("error", event, fields)

    def _line(self, level: Literal["debug", "info", "warning", "error"], event: str, fields: dict[str, object]) -> None:
        plain = {name: value if isinstance(value, (str, int, float, bool)) else str(value) for name, value in fields.items()}
        self._send(Line(level, event, plain))


class ChildContext:
    """See `gateway_agent.driver.Context`. ``encoders`` by channel; ``topics`` of channels with one per device."""

    def __init__(
        self,
        send: Callable[[Message], None],
        *,
        encoders: dict[str, Encoder],
        topics: Mapping[str, Callable[..., str]],
        stored: bytes,
        max_event_bytes: int,
    ) -> None:
        self._send = send
        self._encoders = encoders
        self._topics = topics
        self._named: set[tuple[str, str]] = set()
        self._max_event_bytes = max_event_bytes
        self._state = DurableState(stored, lambda: self._outgoing.state_changed())  # noqa: PLW0108  (made one line later)
        self._outgoing = Outgoing(send, self._state)
        self._stopping = threading.Event()
        self._log = ChildLog(send)
        #: When the driver used its context last, by the monotonic clock.
        self.used = time.monotonic()
        #: Set when `run` has come so far as to emit, sleep or look whether it should stop: commands may come then.
        self.at_work = threading.Event()

    @property
    def log(self) -> ChildLog:
        return self._log

    @property
    def stopping(self) -> bool:
        self._note_use()
        return self._stopping.is_set()

    @property
    def state(self) -> DurableState:
        return self._state

    @property
    def outgoing(self) -> Outgoing:
        return self._outgoing

    def emit(self, device: str, channel: str, *, event_time: datetime | int | None = None, **fields: Any) -> None:
        self._note_use()
        self._outgoing.add(channel, device, *self._encode(device, channel, event_time, fields))

    def emit_many(self, events: Iterable[Event]) -> None:
        self._note_use()
        encode = self._encode
        encoded = [
            (channel, device, *encode(device, channel, event_time, fields)) for device, channel, event_time, fields in events
        ]
        self._outgoing.add_many(encoded)

    def together(self) -> AbstractContextManager[None]:
        return self._outgoing.together()

    def flush(self, timeout: float = 30.0) -> bool:
        self._note_use()
        self._outgoing.flush()
        done = self._outgoing.wait(timeout)
        self._note_use()
        return done

    def sleep(self, seconds: float) -> bool:
        self._outgoing.flush()
        until = time.monotonic() + seconds
        while True:
            # In pieces, so that a driver that sleeps for long does not count as hung.
            self._note_use()
            left = until - self.used
            if left <= 0:
                return not self._stopping.is_set()
            if self._stopping.wait(min(left, 0.5)):
                return False

    def reject(self, where: str, reason: str) -> None:
        self._note_use()
        self._send(Rejected(1, where, reason[:500]))

    def serial(self, port: str, *, baud: int = 9600, **options: Any) -> SerialPort:
        from gateway_agent.serial_port import SerialPort

        return SerialPort(self, port, baud=baud, **options)

    def _note_use(self) -> None:
        self.used = time.monotonic()
        if not self.at_work.is_set():
            self.at_work.set()

    def stop(self) -> None:
        """The agent wants the driver to return."""
        self._stopping.set()

    def _encode(self, device: str, channel: str, event_time: datetime | int | None, fields: Any) -> tuple[str, bytes]:
        encoder = self._encoders.get(channel)
        if encoder is None:
            raise SchemaError(f"no channel {channel!r} to emit on", remedy="declared are: " + ", ".join(sorted(self._encoders)))
        time_us = time.time_ns() // 1_000 if event_time is None else microseconds(event_time)
        tail = encoder(device, time_us, fields)
        if len(tail) > self._max_event_bytes:
            raise SchemaError(
                f"channel {channel!r}: an event of {len(tail)} bytes, {self._max_event_bytes} are the most",
                remedy="raise the broker's limit, or emit less at a time",
            )
        if channel not in self._topics:
            return "", tail
        if (channel, device) not in self._named:
            self._check_topic(channel, device)
        return device, tail

    def _check_topic(self, channel: str, device: str) -> None:
        try:
            self._topics[channel](device=device)
        except ConfigurationError as error:
            raise SchemaError(f"channel {channel!r} has a topic per device: {error.message}", remedy=error.remedy) from None
        self._named.add((channel, device))
