"""google-cloud-pubsub: its publisher with ordering and large batches; its synchronous pull, a thousand at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.cloud import pubsub_v1  # type: ignore[attr-defined]
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from benchmarks.contestants.terms import DEADLINE, GROUP, KEY, TOGETHER, Clock
from brokers.pubsub.names import subscriptions_of, topic_of
from brokers.url import parse_url


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    path = topic_of(parse_url(url).hosts[0].name, topic).path
    client: Any = pubsub_v1.PublisherClient(
        batch_settings=pubsub_v1.types.BatchSettings(max_messages=TOGETHER, max_bytes=2_000_000, max_latency=0.01),
        publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True),
        transport=PublisherGrpcTransport(channel=_channel(url)),
    )
    client.publish(path, frames[0], KEY, key=KEY).result(DEADLINE)
    clock = Clock()
    sent = [client.publish(path, frame, KEY, key=KEY) for frame in frames[1:]]
    for one in sent:
        one.result(DEADLINE)
    rate = clock.rate(len(sent))
    client.stop()
    return rate


def read(url: str, topic: str, count: int) -> float:
    (subscription,) = subscriptions_of(parse_url(url).hosts[0].name, [topic], GROUP)
    clock = Clock()
    found = 0
    with pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=_channel(url))) as client:
        while found < count:
            answer = client.pull(subscription=subscription.path, max_messages=TOGETHER, timeout=DEADLINE)
            ids = [one.ack_id for one in answer.received_messages]
            if ids:
                client.acknowledge(subscription=subscription.path, ack_ids=ids, timeout=DEADLINE)
            found += len(ids)
        return clock.rate(count)


def _channel(url: str) -> Any:
    return grpc.insecure_channel(
        parse_url(url).options["emulator"],
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
