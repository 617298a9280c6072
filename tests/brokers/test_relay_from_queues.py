"""The relay from every broker that has a server: whoever dies, or is away, every message arrives, in the order of its key."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

from brokers import Broker, Message, connect
from schemas.frame import decode_frame, encode_frame
from schemas.registry import Schemas, shipped
from tests.brokers.kit import ROOT, eventually, read_all
from tests.brokers.patience import publish_patiently
from tests.servers.broker_server import BrokerServer, Servers
from tests.servers.every import logs, names, queues

pytestmark = pytest.mark.slow

GROUP = "relay"
KEYS = ("a", "b", "c")
#: Lives of a relay that is killed again and again.
LIVES = 2
Place = tuple[str, str]

_READING = shipped("Reading")
_SCHEMAS = Schemas.with_shipped()
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def publication(topics: Sequence[str], number: int, *, age: float = 0.0) -> list[Message]:
    """A frame of one event with this number, of every key and to every topic, accepted ``age`` seconds ago."""
    moment = int((time.time() - age) * 1e6)
    measured = {"gateway_time": moment, "event_time": moment, "device": "d", "channel": "c", "value": float(number)}
    frames = {key: encode_frame(_READING, [{"gateway": key, "epoch": 1, "seq": number, **measured}]) for key in KEYS}
    return [Message(topic, key, frames[key]) for topic in topics for key in KEYS]


class Publishing:
    """A thread that publishes 0, 1, 2 … of every key to every topic until told to stop, as the agent does."""

    def __init__(self, broker: Broker, topics: Sequence[str], *, age: float = 0.0) -> None:
        self.calls = 0
        self._broker, self._topics, self._age = broker, topics, age
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=120)
        assert self._failure is None, self._failure
        assert not self._thread.is_alive(), "publishing did not end"

    @property
    def expected(self) -> dict[Place, list[int]]:
        """What was published, by topic and key."""
        return {(topic, key): list(range(self.calls)) for topic in self._topics for key in KEYS}

    def _run(self) -> None:
        try:
            with closing(self._broker.publisher()) as publisher:
                while not self._stopping.wait(0.1):
                    publish_patiently(publisher, publication(self._topics, self.calls, age=self._age))
                    self.calls += 1
        except BaseException as error:
            self._failure = error


class Relay:
    """The command as a person starts it."""

    def __init__(self, source: str, topics: Sequence[str], target: str, directory: Path) -> None:
        url, mark, query = source.partition("?")
        command = [sys.executable, "-m", "iotcloud", "relay", f"{url}/{','.join(topics)}{mark}{query}", target]
        command += ["--group", GROUP, "--positions", str(directory / "positions"), "--metrics-port", "0"]
        self.log = directory / f"relay-{uuid4().hex[:6]}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log)

    def status(self) -> dict[str, Any]:
        """Of its one source, from the moment on when it serves it."""
        eventually(lambda: '"port"' in self.log.read_text(), "it serves its status")
        line = next(line for line in self.log.read_text().splitlines() if '"port"' in line)
        with _OPENER.open(f"http://127.0.0.1:{json.loads(line)['port']}/api/v1/status", timeout=10) as answer:
            (found,) = json.load(answer)["forwarders"]
        return dict(found)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def relay(source: str, topics: Sequence[str], target: str, directory: Path) -> Iterator[Relay]:
    """Gone at the end, whatever happens."""
    made = Relay(source, topics, target, directory)
    try:
        yield made
    finally:
        made.kill()


def contents(broker: Broker, topics: Sequence[str]) -> dict[Place, list[int]]:
    """Numbers by topic and key, as they stand in a log."""
    found: dict[Place, list[int]] = defaultdict(list)
    with closing(broker.log_reader()) as reader:
        for topic in topics:
            for records in read_all(reader, topic).values():
                for record in records:
                    (event,) = decode_frame(record.value, _SCHEMAS).events
                    assert event["gateway"] == record.key
                    found[topic, record.key].append(event["seq"])
    return found


def stored(broker: Broker, topics: Sequence[str]) -> int:
    return sum(map(len, contents(broker, topics).values()))


def more_than(count: int, broker: Broker, topics: Sequence[str]) -> bool:
    return stored(broker, topics) > count


def in_order(found: dict[Place, list[int]]) -> dict[Place, list[int]]:
    """Without what came again."""
    return {place: list(dict.fromkeys(numbers)) for place, numbers in found.items()}


def most_copies(found: dict[Place, list[int]]) -> int:
    return max(max(Counter(numbers).values()) for numbers in found.values())


def disturb(server: BrokerServer, broker: Broker) -> None:
    """SIGKILL and a new start; where a server would forget all, only its network goes."""
    if broker.capabilities.durable:
        server.process.kill()
        time.sleep(0.3)
        server.process.start()
    else:
        server.proxy.cut()
        time.sleep(1.0)
        server.proxy.restore()


@pytest.fixture
def topics() -> tuple[str, str]:
    """Of this test alone: servers are shared."""
    name = f"relay-{uuid4().hex[:10]}"
    return f"{name}.humidity", f"{name}.temperature"


@pytest.mark.parametrize("name", names())
def test_killed_at_random_moments_as_its_source_is_it_loses_nothing_and_keeps_the_order(
    name: str, servers: Servers, topics: tuple[str, str], tmp_path: Path
) -> None:
    """Guarantee: in order per key; a message comes again at most once for each time that somebody died."""
    server = servers[name]
    url = server.proxied_url()
    source, target = connect(url), connect(f"local:{tmp_path}/to")
    source.keep(topics, group=GROUP)
    with Publishing(connect(server.url()), topics) as published:
        for life in range(LIVES):
            before = stored(target, topics)
            with relay(url, topics, target.url, tmp_path) as running:
                eventually(partial(more_than, before, target, topics), "it moves")
                if life == 1:
                    disturb(server, source)
                    eventually(partial(more_than, stored(target, topics), target, topics), "it moves again")
                time.sleep(random.uniform(0.0, 0.3))
                running.kill()
    with relay(url, topics, target.url, tmp_path) as running:
        eventually(partial(_all_came, target, topics, published), "all came, in order")
        eventually(lambda: running.status()["idle"], "it says that nothing is left")
        assert running.terminate() == 0
    # Killed, killed with its source, and the source when it was published to.
    assert most_copies(contents(target, topics)) <= 1 + LIVES + 2


@pytest.mark.parametrize("name", names())
def test_while_the_target_is_away_nothing_is_acknowledged_and_the_lag_is_measured(
    name: str, servers: Servers, topics: tuple[str, str], tmp_path: Path
) -> None:
    server = servers[name]
    url = server.url()
    source, target = connect(url), connect(f"local:{tmp_path}/later/to")
    source.keep(topics, group=GROUP)
    with closing(source.publisher()) as publisher:
        for number in range(10):
            publish_patiently(publisher, publication(topics, number))
    for end in (Relay.terminate, Relay.kill):
        with relay(url, topics, target.url, tmp_path) as running:
            eventually(lambda: running.status()["retries"] >= 2, "it tries again")
            status = running.status()
            assert (status["messages"], status["connected"], status["lag_seconds"]) == (0, False, None)
            assert not end(running), "it ends well"
    with relay(url, topics, target.url, tmp_path) as running:
        eventually(lambda: running.status()["retries"] >= 1, "it tries again")
        (tmp_path / "later").mkdir()
        # Nothing came twice: nothing was acknowledged, and nothing published.
        everything = {(topic, key): list(range(10)) for topic in topics for key in KEYS}
        eventually(lambda: contents(target, topics) == everything, "all came, once")
        eventually(lambda: running.status()["lag_seconds"] == 0, "it has no lag when all was moved")
        assert running.status()["messages"] == 60


@pytest.mark.parametrize("name", names())
def test_its_lag_is_the_age_of_what_it_moves(name: str, servers: Servers, topics: tuple[str, str], tmp_path: Path) -> None:
    url = servers[name].url()
    source, target = connect(url), connect(f"local:{tmp_path}/to")
    source.keep(topics, group=GROUP)
    with relay(url, topics, target.url, tmp_path) as running:
        with Publishing(source, topics, age=5_000):
            eventually(lambda: 5_000 <= (running.status()["lag_seconds"] or 0) < 5_100, "the age of what is moved")
        eventually(lambda: running.status()["lag_seconds"] == 0, "none when all was moved")


def test_into_a_log_whose_server_dies_nothing_is_lost_and_the_order_kept(
    servers: Servers, topics: tuple[str, str], tmp_path: Path
) -> None:
    source_server = servers[queues()[0]]
    source = connect(source_server.url())
    for name in logs():
        target_server = servers[name]
        target = connect(target_server.url())
        source.keep(topics, group=GROUP)
        with relay(source_server.url(), topics, target_server.url(), tmp_path) as running:
            with Publishing(source, topics) as published:
                eventually(partial(more_than, 0, target, topics), "it moves")
                target_server.process.kill()
                time.sleep(0.5)
                target_server.process.start()
                moved = running.status()["messages"]
                eventually(partial(_moved_more, running, moved), "it moves again")
            eventually(partial(_all_came, target, topics, published), "all came, in order")
            assert running.terminate() == 0
        assert most_copies(contents(target, topics)) <= 2


def _all_came(target: Broker, topics: Sequence[str], published: Publishing) -> bool:
    return in_order(contents(target, topics)) == published.expected


def _moved_more(running: Relay, before: int) -> bool:
    return int(running.status()["messages"]) > before
