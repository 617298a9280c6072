"""Queues as sources: what they deliver is moved into a log first, by the job itself, and read from there.

A queue forgets what was acknowledged; a job that is started again must read again. So the relay acknowledges once the
log has it, and the log is what the job reads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from brokers import connect
from brokers.forwarding import Forwarder
from pipelines.signals import Signals
from pipelines.sources.discovery import Source
from schemas.errors import ConfigurationError

#: How long the job's own relay log keeps what was moved: how far back a restart, or late windows, may read.
_KEPT: Final = "7d"
_LOOK_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 35.0


@dataclass(frozen=True)
class Relayed:
    """``sources`` are the logs to read; ``moved`` the queues to move, each with the log it goes into."""

    sources: tuple[Source, ...]
    moved: tuple[tuple[Source, str], ...]


def relayed(sources: Sequence[Source], *, relay: str, state: Path | None) -> Relayed:
    """Put a log in the place of every queue among ``sources``: ``relay`` (a URL), or one in the job's directory ``state``.

    Raises `ConfigurationError` when there is neither.
    """
    logs: dict[str, list[str]] = {}
    moved: list[tuple[Source, str]] = []
    for source in sources:
        broker = connect(source.url)
        if broker.capabilities.log:
            logs.setdefault(source.url, []).extend(source.topics)
            continue
        if not relay and state is None:
            raise ConfigurationError(
                f"{broker.url} is a queue and cannot be read again",
                remedy="give the job a directory, --state DIR, where it puts what it takes from the queue, or --relay LOG_URL",
            )
        url = relay or f"local:{state}/relay?retention_age={_KEPT}"
        moved.append((source, url))
        logs.setdefault(url, []).extend(source.topics)
    return Relayed(tuple(Source(url, tuple(dict.fromkeys(topics))) for url, topics in logs.items()), tuple(moved))


class Relays:
    """The relays of a job, a thread for each queue. ``group`` is the job's name at the queues."""

    def __init__(self, moved: Sequence[tuple[Source, str]], *, group: str) -> None:
        self._stopping = threading.Event()
        self._finishing = threading.Event()
        self._failures: list[Exception] = []
        self._forwarders = [
            Forwarder(connect(source.url), source.topics, connect(target), group=group) for source, target in moved
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(forwarder,), name=f"relay-{number}", daemon=True)
            for number, forwarder in enumerate(self._forwarders)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def idle(self) -> bool:
        """Whether all queues have nothing more at the moment."""
        return all(forwarder.progress.idle for forwarder in self._forwarders)

    def finish(self) -> None:
        """From here on a relay ends when its queue has nothing more."""
        self._finishing.set()

    @property
    def finished(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def check(self) -> None:
        """Raises what ended a relay before its time."""
        if self._failures:
            raise self._failures[0]

    def drain(self, signals: Signals) -> None:
        """Wait until everything that the queues hold has been moved, or a signal comes. Raises what `check` raises."""
        self.finish()
        for thread in self._threads:
            while thread.is_alive() and not signals.received:
                thread.join(_LOOK_SECONDS)
        self.check()

    def close(self) -> None:
        """Stop moving; what was not acknowledged is delivered again another time."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_SECONDS)

    def document(self) -> list[Mapping[str, Any]]:
        """How each is, as JSON data."""
        return [
            {"source": forwarder.source_url, **{name: getattr(forwarder.progress, name) for name in forwarder.progress.__slots__}}
            for forwarder in self._forwarders
        ]

    def _run(self, forwarder: Forwarder) -> None:
        try:
            forwarder.run(self._stopping, self._finishing)
        except Exception as error:  # noqa: BLE001  (raised by `check` in the thread that runs the job)
            self._failures.append(error)
