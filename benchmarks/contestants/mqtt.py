"""paho-mqtt at quality of service 1.

mosquitto answers before what it answers for is on disk. So that both are equally safe, requests that make it write follow
every thousand messages, as in `brokers.mqtt.connection`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from benchmarks.contestants.terms import DEADLINE, GROUP, KEY, TOGETHER, Clock
from brokers.mqtt.names import mqtt_topic, session_id
from brokers.mqtt.options import target_of
from brokers.url import parse_url

_NOWHERE: Final = "bench/nothing"
_EXPIRY: Final = 7 * 86_400


class _Count:
    """Counts up to what is waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._wanted = 0

    def add(self, *_: Any) -> None:
        with self._changed:
            self._count += 1
            if self._count >= self._wanted:
                self._changed.notify_all()

    def wait(self, wanted: int) -> None:
        with self._changed:
            self._wanted = wanted
            if not self._changed.wait_for(lambda: self._count >= wanted, timeout=DEADLINE):
                raise TimeoutError(f"{self._count} of {wanted} answers")


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    name = mqtt_topic(topic)
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = ("key", KEY)
    published, answered = _Count(), _Count()
    sent = asked = 0

    def store(client: Client, some: Sequence[bytes]) -> None:
        nonlocal sent, asked
        for frame in some:
            client.publish(name, frame, qos=1, properties=properties)
        sent += len(some)
        published.wait(sent)
        for requests in (target_of(parse_url(url)).options.writes_every, 1):
            for _ in range(requests):
                client.unsubscribe(_NOWHERE)
            asked += requests
            answered.wait(asked)

    with _connected(url, "") as client:
        client.on_publish = published.add
        client.on_unsubscribe = answered.add
        store(client, frames[:1])
        clock = Clock()
        for first in range(1, len(frames), TOGETHER):
            store(client, frames[first : first + TOGETHER])
        return clock.rate(len(frames) - 1)


def read(url: str, topic: str, count: int) -> float:
    name = mqtt_topic(topic)
    came, answered = _Count(), _Count()

    def prepare(client: Client) -> None:
        client.on_message = came.add
        client.on_unsubscribe = answered.add

    clock = Clock()
    with _connected(url, session_id(GROUP, topic), prepare) as client:
        client.subscribe(name, options=SubscribeOptions(qos=1))
        # The library acknowledges what its callback has returned from.
        came.wait(count)
        for number in range(1, 3):
            client.unsubscribe(_NOWHERE)
            answered.wait(number)
        return clock.rate(count)


@contextmanager
def _connected(url: str, client_id: str, prepare: Callable[[Client], None] = lambda _: None) -> Iterator[Client]:
    """``client_id`` of a session that is kept, or empty."""
    parsed = parse_url(url)
    host = parsed.hosts[0]
    open_ = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(parsed.user, parsed.password)
    client.max_inflight_messages_set(TOGETHER)
    client.on_connect = lambda *_: open_.set()
    prepare(client)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = 0xFFFF
    if client_id:
        properties.SessionExpiryInterval = _EXPIRY
    client.connect(host.name, host.port or 0, clean_start=not client_id, properties=properties)
    client.loop_start()
    if not open_.wait(DEADLINE):
        raise TimeoutError("not connected")
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()
