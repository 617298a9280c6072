"""Partitions are found once each, also while a broker comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from brokers import BrokerUnavailable, Message, connect
from pipelines.session import Session
from pipelines.sources.discovery import Source, find
from pipelines.sources.log import Partition, ReadSettings


class Flapping(Session):
    """A session whose broker goes away when ``away`` topics are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.away = {"b"}

    @contextmanager
    def reader(self, url: str, topic: str, partition: int, *, base: int = 0) -> Iterator[Any]:
        if topic in self.away:
            raise BrokerUnavailable(f"{url} is away")
        with super().reader(url, topic, partition, base=base) as reader:
            yield reader


def test_what_was_found_before_a_broker_went_away_is_read(tmp_path: Path) -> None:
    url = f"local:{tmp_path}/log"
    connect(url).publisher().publish([Message(topic, "k", b"v") for topic in ("a", "b")])
    session, source, settings = Flapping(), Source(url, ("a", "b")), ReadSettings("job")
    found: list[Partition] = []
    for _ in range(3):
        with suppress(BrokerUnavailable):
            for partition in find(session, source, settings, 0):
                found.append(partition)  # noqa: PERF402 - one by one, as the job takes them
        if len(found) == 1:
            session.away.clear()
    assert [partition.topic for partition in found] == ["a", "b"]
    assert {key for key, _ in session.clocks.snapshot()} == {partition.topic for partition in found}
    session.close()
