"""The real-time job on every broker with a server: rows equal to plain Python, whichever of them is killed on the way."""

from __future__ import annotations

import dataclasses
import itertools
import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker, Message, PublishError, connect
from schemas.errors import FrameError
from schemas.frame import peek
from schemas.topics import PIPELINES
from tests.pipelines.fleet import TOPICS, Fleet, difference, fleet, pieces, rows_of
from tests.pipelines.system.job import Job
from tests.servers import every
from tests.servers.broker_server import Servers

pytestmark = pytest.mark.slow
SIZES = ((10, 10), (30, 10))
SERVERS = every.names()
_numbers = itertools.count(1)


def named_anew(sent: Fleet) -> tuple[Fleet, tuple[str, ...]]:
    """The same with topics that no other test uses: servers are shared."""
    site = f"site-{next(_numbers)}-{time.time_ns()}"
    name = {topic: topic.replace("site", site, 1) for topic in TOPICS}
    messages = [message._replace(topic=name[message.topic]) for message in sent.messages]
    gaps = {(name[topic], *rest) for topic, *rest in sent.gaps}
    return dataclasses.replace(sent, messages=messages, gaps=gaps), tuple(name.values())


def prepared(broker: Broker, topics: Sequence[str]) -> None:
    """What a gateway does before it publishes."""
    for topic in topics:
        if not broker.capabilities.creates_topics:
            broker.create_topic(topic)
    broker.keep(topics, group=PIPELINES)


def publish(broker: Broker, messages: Sequence[Message], *, pause: float = 0.0) -> None:
    """As the agent does: what is not acknowledged is published again, for as long as it takes."""
    until = time.monotonic() + 120
    with closing(broker.publisher()) as publisher:
        for piece in pieces(list(messages), 40):
            waiting = list(piece)
            while waiting:
                try:
                    publisher.publish(waiting, timeout=5)
                    waiting = []
                except PublishError as error:
                    if time.monotonic() > until:
                        raise
                    waiting = [waiting[index] for index in error.unacknowledged]
                    time.sleep(0.2)
            time.sleep(pause)


@contextmanager
def publishing(broker: Broker, messages: Sequence[Message]) -> Iterator[threading.Thread]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            publish(broker, messages, pause=0.1)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(150)
    assert not thread.is_alive()
    assert failures == []


def missing(path: Path) -> set[Any]:
    """Every event that is missing or was declared, by gateway."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT topic, gateway, first, last, state FROM gaps WHERE state <> 'closed'").fetchall()
    return expanded(rows)


def expanded(gaps: Any) -> set[Any]:
    return {(topic, gateway, seq, state) for topic, gateway, first, last, state in gaps for seq in range(first, last + 1)}


def check(job: Job, sent: Fleet) -> None:
    rows, _ = rows_of(job.results)
    assert difference(rows, sent.windows(SIZES)) == []
    assert missing(job.results) == expanded(sent.gaps)


@pytest.mark.parametrize("name", SERVERS)
def test_a_broker_read_to_its_end_gives_exactly_the_rows_of_plain_python(servers: Servers, tmp_path: Path, name: str) -> None:
    sent, topics = named_anew(fleet(5, seconds=300))
    url = servers[name].url()
    prepared(connect(url), topics)
    publish(connect(url), sent.messages)
    job = Job(tmp_path, topics, sources=[url])
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)


@pytest.mark.parametrize("name", SERVERS)
def test_job_and_server_killed_while_events_flow_lose_nothing_and_count_nothing_twice(
    servers: Servers, tmp_path: Path, name: str
) -> None:
    server = servers[name]
    broker = connect(server.url())
    if not broker.capabilities.durable:
        pytest.skip(f"the server is not killed: {broker.capabilities.notes}")
    chance = random.Random(name)
    sent, topics = named_anew(fleet(6, seconds=400))
    prepared(broker, topics)
    job = Job(tmp_path, topics, sources=[server.url()])
    job.start()
    with publishing(broker, sent.messages) as publishes:
        job.wait_for(lambda status: status["totals"]["events"] > 0, timeout=90)
        time.sleep(chance.uniform(0, 1))
        server.process.kill()
        time.sleep(1)
        server.process.start()
        time.sleep(chance.uniform(0, 2))
        job.kill()
        job.start()
        publishes.join(120)
    assert job.process is not None
    job.wait_for(lambda status: status["caught_up"] and status["totals"]["events"] > 0, timeout=120)
    job.kill()
    assert job.run("--until-end") == 0, job.log()
    check(job, sent)


def test_partitions_added_to_a_topic_are_read_while_the_job_runs(servers: Servers, tmp_path: Path) -> None:
    for name in SERVERS:
        broker = connect(servers[name].url())
        if not broker.capabilities.log:
            continue
        sent, topics = named_anew(fleet(7, seconds=200))
        half = len(sent.messages) // 2
        for topic in topics:
            broker.create_topic(topic, partitions=1)
        publish(broker, sent.messages[:half])
        job = Job(tmp_path, topics, sources=[servers[name].url()])
        job.start()
        job.wait_for(lambda status: status["totals"]["events"] > 0)
        for topic in topics:
            broker.create_topic(topic, partitions=3)
        more = [message._replace(key=f"{message.key}-{number % 5}") for number, message in enumerate(sent.messages[half:])]
        publish(broker, more)
        frames = len(sent.messages)
        job.wait_for(lambda status: status["totals"]["frames"] == frames)  # noqa: B023
        job.wait_for(lambda status: all(topic["partitions"] == 3 for topic in status["topics"].values()))
        job.terminate()
        assert job.wait() == 0, job.log()


def part_of(message: Message, parts: int) -> int:
    """Which broker a frame went to: each had the topic for 300 events of every gateway, the last for the rest."""
    try:
        return min(peek(message.value).first // 300, parts - 1)
    except FrameError:
        return 0


def test_a_topic_that_was_moved_between_brokers_is_read_from_both(servers: Servers, tmp_path: Path) -> None:
    """From a log to a queue and on to another queue: each has a part of the topic, and the job all of it, once."""
    sent, topics = named_anew(fleet(8, seconds=300))
    urls = [f"local:{tmp_path}/log", *(servers[name].url() for name in SERVERS[:3])]
    for number, url in enumerate(urls):
        prepared(connect(url), topics)
        publish(connect(url), [message for message in sent.messages if part_of(message, len(urls)) == number])
    job = Job(tmp_path, topics, sources=urls)
    job.start()
    job.wait_for(lambda status: status["totals"]["events"] > 0)
    job.kill()
    # The order in which they are named then does not matter: the job knows them.
    again = Job(tmp_path, topics, sources=urls[::-1])
    assert again.run("--until-end") == 0, again.log()
    rows, _ = rows_of(again.results)
    assert difference(rows, sent.windows(SIZES)) == []
