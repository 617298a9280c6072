"""Which threads there are: for each broker that carries commands one that sends and one that follows results."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from master import views
from master.clock import Clock
from master.dispatch.following import Follower
from master.dispatch.sending import Sender
from master.errors import Busy, NotFound
from master.store import commands, gateways
from master.store.database import Database
from schemas.command import Command
from schemas.errors import ConfigurationError
from schemas.topics import results_topic
from telemetry.logs import logger

#: Brokers that may carry commands. Each costs two threads and their connections.
MAX_BROKERS: Final = 256


class BrokerStatus(msgspec.Struct, frozen=True):
    """A broker that carries commands; the troubles are empty while it can be used."""

    broker: str
    gateways: int
    sending: str
    following: str


class Dispatcher:
    """Called from worker threads."""

    def __init__(self, database: Database, clock: Clock, recorded: Callable[[int, int], None]) -> None:
        self._database = database
        self._clock = clock
        self._recorded = recorded
        self._lock = threading.Lock()
        self._senders: dict[str, Sender] = {}
        self._followers: dict[str, Follower] = {}
        #: By the URL of their broker: gateways, each with the topic of its results.
        self._gateways: dict[str, dict[str, str]] = {}
        self._passed_over: set[str] = set()
        self._log = logger("dispatcher")

    def start(self) -> None:
        """Follow what is registered, and send what a process before this one had written down and not sent."""
        self.refresh()
        with self._database.read() as connection:
            waiting = commands.unsent(connection)
        for command in waiting:
            try:
                self.send(command)
            except (NotFound, Busy) as error:
                with self._database.write() as connection:
                    commands.reach(connection, [command.id], views.UNSENT, str(error), time=self._clock.wall())

    def refresh(self) -> None:
        """Follow the results of all gateways that are registered now."""
        with self._lock:
            with self._database.read() as connection:
                urls = gateways.command_brokers(connection)
            wanted = self._by_broker(urls)
            idle: list[Sender | Follower] = [self._followers.pop(url) for url in self._followers.keys() - wanted.keys()]
            idle += [self._senders.pop(url) for url in self._senders.keys() - wanted.keys() if self._senders[url].idle]
            for url, topics in wanted.items():
                if url not in self._followers and len(self._followers) < MAX_BROKERS:
                    self._followers[url] = Follower(url, self._database, self._clock, self._recorded)
                if url in self._followers:
                    self._followers[url].follow(list(topics.values()))
            self._gateways = wanted
        _close(idle, wait=0.0)

    def send(self, command: Command) -> None:
        """Send a command that was written down. Raises `NotFound` and `Busy`."""
        with self._lock:
            url = next((url for url, names in self._gateways.items() if command.gateway in names), None)
            if url is None:
                raise NotFound(f"gateway {command.gateway!r} has no broker for commands", remedy="it has to register")
            sender = self._senders.get(url)
            if sender is None:
                if len(self._senders) >= MAX_BROKERS:
                    raise Busy(f"commands go through {MAX_BROKERS} brokers already", remedy="let gateways share brokers")
                sender = self._senders[url] = Sender(url, self._database, self._clock)
            # Under the lock: a sender that is idle may be closed by `refresh`, and what it got then would wait for a restart.
            sender.send(command)

    def status(self) -> list[BrokerStatus]:
        with self._lock:
            return [
                BrokerStatus(
                    url,
                    len(names),
                    self._senders[url].trouble if url in self._senders else "",
                    self._followers[url].trouble if url in self._followers else "",
                )
                for url, names in sorted(self._gateways.items())
            ]

    def _by_broker(self, urls: Mapping[str, str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for gateway, url in urls.items():
            try:
                found[url][gateway] = results_topic(gateway)
            except ConfigurationError as error:
                # Stored by a master that took such an id: it must not keep the others from being followed.
                if gateway not in self._passed_over:
                    self._log.error("no commands for a gateway", gateway=gateway, problem=error.message)
                    self._passed_over.add(gateway)
        return {url: topics for url, topics in found.items() if topics}

    def close(self) -> None:
        with self._lock:
            workers: list[Sender | Follower] = [*self._senders.values(), *self._followers.values()]
            self._senders.clear()
            self._followers.clear()
        _close(workers, wait=6.0)


def _close(workers: list[Sender | Follower], *, wait: float) -> None:
    """Close them all at once; one whose broker hangs holds up nobody, and ends with the process at the latest."""
    closing = [threading.Thread(target=worker.close, daemon=True) for worker in workers]
    until = time.monotonic() + wait
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(max(0.0, until - time.monotonic()))
