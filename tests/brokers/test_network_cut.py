"""The network is away for 30 s, at any point of what is done with each broker: nothing is lost, and all goes on by itself.

All brokers at once, because one has to wait as long for one of them. Shorter cuts are in `server_contract`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from brokers import Publisher, QueueReader, connect
from tests.brokers.kit import PATIENCE, Numbered, eventually, following, numbered, parse
from tests.brokers.patience import acknowledge_or_again, poll_patiently, publish_patiently
from tests.servers.broker_server import BrokerServer, Servers
from tests.servers.every import names

SECONDS = 30.0
PER_CALL = 2
#: Seconds between two calls of `publish`.
PAUSE = 0.5


class Channel:
    """A topic that is published to and read, by two threads of its own, until it is told to stop."""

    def __init__(self, name: str, publisher: Publisher, reader: QueueReader, topic: str) -> None:
        self.name = name
        self.calls = 0
        self._publisher, self._reader, self._topic = publisher, reader, topic
        self._found: Counter[Numbered] = Counter()
        self._failures: list[BaseException] = []
        self._stopping = threading.Event()

    def publish(self) -> None:
        publish_patiently(self._publisher, numbered(self._topic, "p", self.calls, PER_CALL))
        self.calls += 1

    def read(self) -> None:
        deliveries = poll_patiently(self._reader)
        self._found.update(parse(delivery.value) for delivery in deliveries)
        acknowledge_or_again(self._reader, deliveries)

    def all_come(self) -> bool:
        """Read on; whether there is nothing more to come."""
        assert not self._failures, f"{self.name}: {self._failures}"
        self.read()
        return {Numbered("p", call, index) for call in range(self.calls) for index in range(PER_CALL)} <= self._found.keys()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._repeat, args=(what,), daemon=True) for what in (self._publish_slowly, self.read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(timeout=PATIENCE)

    def _publish_slowly(self) -> None:
        self.publish()
        self._stopping.wait(PAUSE)

    def _repeat(self, what: Callable[[], None]) -> None:
        try:
            while not self._stopping.is_set():
                what()
        except BaseException as error:
            self._failures.append(error)


def channel_of(server: BrokerServer, name: str, stack: ExitStack, *, publish_past_it: bool = False) -> Channel:
    """One whose reader, and whose publisher as well unless ``publish_past_it``, is behind the network that fails."""
    direct, proxied = connect(server.url()), connect(server.proxied_url())
    topic = f"site.app-{uuid.uuid4().hex[:12]}.channel"
    if not direct.capabilities.creates_topics:
        direct.create_topic(topic)
    reader = stack.enter_context(following(proxied, topic))
    publisher = stack.enter_context(closing((direct if publish_past_it else proxied).publisher()))
    poll_patiently(reader)
    return Channel(name, publisher, reader, topic)


@pytest.mark.slow
def test_a_network_that_was_away_for_30_s_has_lost_nothing(servers: Servers) -> None:
    found = {name: servers[name] for name in names()}
    with ExitStack() as stack:
        published = [channel_of(server, f"{name}, published to", stack) for name, server in found.items()]
        read = [channel_of(server, f"{name}, read", stack, publish_past_it=True) for name, server in found.items()]
        idle = [channel_of(server, f"{name}, idle", stack) for name, server in found.items()]
        for channel in idle:
            channel.publish()
            channel.read()
        busy = published + read
        with ExitStack() as working:
            for channel in busy:
                working.enter_context(channel.at_work())
            eventually(lambda: all(channel.calls > 1 for channel in busy), "all are published to")
            for server in found.values():
                server.proxy.cut()
            before = {channel.name: channel.calls for channel in published}
            time.sleep(SECONDS)
            assert all(channel.calls <= before[channel.name] + 1 for channel in published), "the network was not away"
            for server in found.values():
                server.proxy.restore()
            eventually(lambda: all(channel.calls > before[channel.name] + 2 for channel in published), "publishing goes on")
        for channel in idle:
            channel.publish()
        for channel in busy + idle:
            eventually(channel.all_come, f"{channel.name}: all has come")
