"""google-cloud-pubsub: its publisher with ordering and large batches; its subscriber on a streaming pull.

The tests' server, Google's own in-memory one, hands a stream one message every 10 ms: what is read from it says nothing of
the service. (It answers a synchronous pull with many, which the service's documentation advises against for throughput.)
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import grpc
from google.cloud import pubsub_v1  # type: ignore[import-untyped]
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
    numbers = itertools.count(1)
    done = threading.Event()

    def take(message: Any) -> None:
        message.ack()
        if next(numbers) == count:
            done.set()

    clock = Clock()
    with pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=_channel(url))) as client:
        control = pubsub_v1.types.FlowControl(max_messages=2 * TOGETHER)
        stream = client.subscribe(subscription.path, take, flow_control=control)
        if not done.wait(DEADLINE):
            raise TimeoutError(f"fewer than {count} messages")
        rate = clock.rate(count)
        # Sends the acknowledgements that wait.
        stream.cancel()
        stream.result(DEADLINE)
        return rate


def _channel(url: str) -> Any:
    return grpc.insecure_channel(
        parse_url(url).options["emulator"],
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
