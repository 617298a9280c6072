"""kafka-python: an idempotent producer with ``acks=all`` and large batches; a consumer of one partition.

With crc32c installed, as its documentation advises: its own checksums in Python are many times as slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from benchmarks.contestants.terms import DEADLINE, KEY, Clock
from brokers.url import parse_url


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    from kafka import KafkaProducer  # type: ignore[import-untyped]

    key = KEY.encode()
    producer = KafkaProducer(
        bootstrap_servers=_servers(url), acks="all", linger_ms=5, batch_size=512 << 10, max_request_size=8 << 20
    )
    with closing(producer):
        producer.send(topic, frames[0], key).get(DEADLINE)
        clock = Clock()
        sent = [producer.send(topic, frame, key) for frame in frames[1:]]
        producer.flush(DEADLINE)
        for one in sent:
            one.get(DEADLINE)
        return clock.rate(len(sent))


def read(url: str, topic: str, count: int) -> float:
    from kafka import KafkaConsumer, TopicPartition

    clock = Clock()
    consumer: Any = KafkaConsumer(
        bootstrap_servers=_servers(url),
        max_poll_records=5_000,
        max_partition_fetch_bytes=2 << 20,
        enable_auto_commit=False,
    )
    with closing(consumer):
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, consumer.end_offsets([place])[place] - count)
        found = 0
        while found < count:
            found += sum(map(len, consumer.poll(timeout_ms=1_000).values()))
        return clock.rate(count)


def _servers(url: str) -> list[str]:
    return [f"{host.name}:{host.port}" for host in parse_url(url).hosts]
