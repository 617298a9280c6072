"""Publishing and reading as the agent and the pipeline do: what a failing server has not taken is tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from brokers import BrokerUnavailable, Message, Publisher, PublishError
from tests.brokers.kit import PATIENCE, numbered


class Progress:
    """How far a thread is that publishes."""

    def __init__(self) -> None:
        self.done = 0
        self.failure: BaseException | None = None
        self._changed = threading.Condition()

    def advance(self) -> None:
        with self._changed:
            self.done += 1
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self._changed.notify_all()

    def wait_for(self, calls: int) -> None:
        """Fails when it takes too long."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.done >= calls or self.failure is not None, timeout=2 * PATIENCE)
        assert self.failure is None, self.failure
        assert reached, f"{self.done} of {calls} calls were published"


@contextmanager
def publishing_again_and_again(publisher: Publisher, topic: str, *, calls: int, per_call: int) -> Iterator[Progress]:
    """A thread that publishes numbered messages as the agent does: what is not acknowledged is published again."""
    progress = Progress()
    stopping = threading.Event()

    def run() -> None:
        try:
            for call in range(calls):
                publish_patiently(publisher, numbered(topic, "p", call, per_call), stopping=stopping)
                progress.advance()
        except BaseException as error:
            progress.fail(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        stopping.set()
        thread.join(timeout=PATIENCE)


def publish_patiently(publisher: Publisher, messages: list[Message], *, stopping: threading.Event | None = None) -> None:
    """Publish, and what is not acknowledged again, until all is."""
    until = time.monotonic() + 2 * PATIENCE
    while messages:
        try:
            publisher.publish(messages, timeout=5)
            return
        except PublishError as error:
            if error.refused or time.monotonic() > until or (stopping and stopping.is_set()):
                raise
            messages = [messages[index] for index in error.unacknowledged]
            time.sleep(0.1)


def poll_patiently(reader: Any) -> Any:
    """A poll that takes an absent server for nothing there."""
    try:
        return reader.poll(max_messages=1000, timeout=1.0)
    except BrokerUnavailable:
        time.sleep(0.1)
        return []


def acknowledge_or_again(reader: Any, deliveries: Any) -> None:
    """Acknowledge; with the connection gone they are delivered again, and that is fine."""
    with suppress(BrokerUnavailable):
        reader.acknowledge(deliveries)


@contextmanager
def ended_within(seconds: float) -> Iterator[None]:
    """Fails when the block takes so much longer than its deadline that it was none."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds, "the deadline did not hold"
