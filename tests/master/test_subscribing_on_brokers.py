"""A client's subscription on every broker that has a server: events come, and nothing is kept for one that has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import pytest

import brokers
from brokers.subscription import subscribe
from master.client import Client
from schemas.topics import event_topic
from tests.master.gateways import RpcGateway, publish_readings, registration
from tests.servers.broker_server import BrokerServer, Servers
from tests.servers.every import names

pytestmark = pytest.mark.slow

Connect = Callable[[], RpcGateway]


@pytest.fixture
def name(name: str) -> str:
    """Servers are shared with tests of other folders."""
    return f"client-{name}"


@pytest.fixture(params=names())
def server(
    request: pytest.FixtureRequest, servers: Servers, connect: Connect, name: str, monkeypatch: pytest.MonkeyPatch
) -> BrokerServer:
    """With a registered gateway that publishes to it. The master takes no passwords: a variable stands for the URL."""
    found = servers[request.param]
    monkeypatch.setenv("URL_OF_THE_BROKER", found.proxied_url())
    gateway = connect()
    gateway.register(registration(name, "${URL_OF_THE_BROKER}", site=name))
    gateway.heartbeat(name, devices=(f"{name}-pump",))
    return found


def test_events_come_and_what_was_kept_for_the_reader_goes_with_it(client: Client, name: str, server: BrokerServer) -> None:
    url, device = server.url(), f"{name}-pump"
    with client.device(device).subscribe("pressure", timeout=20) as subscription:
        publish_readings(url, name, device, [1.0, 2.0], site=name)
        publish_readings(url, name, device, [3.0], first=2, site=name)
        assert [next(subscription)["value"] for _ in range(3)] == [1.0, 2.0, 3.0]
        # Nobody will read this.
        publish_readings(url, name, device, [4.0], first=3, site=name)
    broker = brokers.connect(url)
    topic, group = event_topic(name, "pumps", "pressure"), subscription._group
    try:
        with closing(subscribe(broker, [topic], group=group, start="end")) as reader:
            assert list(reader.poll(max_messages=10, timeout=1.0)) == []
            last = publish_readings(url, name, device, [5.0], first=4, site=name)
            deliveries = reader.poll(max_messages=10, timeout=20)
            assert [delivery.value for delivery in deliveries] == [last]
            reader.acknowledge(deliveries)
    finally:
        broker.forget([topic], group=group)


def test_events_go_on_after_the_network_was_cut(client: Client, name: str, server: BrokerServer) -> None:
    """Guarantee: what a subscription has missed meanwhile comes, in order, and nothing comes twice."""
    device = f"{name}-pump"
    with client.device(device).subscribe("pressure", timeout=60) as subscription:
        publish_readings(server.url(), name, device, [0.0, 1.0], site=name)
        assert [next(subscription)["value"] for _ in range(2)] == [0.0, 1.0]
        for cut in range(2):
            server.proxy.cut()
            publish_readings(server.url(), name, device, [2.0 + cut], first=2 + cut, site=name)
            threading.Timer(1.0, server.proxy.restore).start()
            assert next(subscription)["value"] == 2.0 + cut
        publish_readings(server.url(), name, device, [4.0], first=4, site=name)
        assert next(subscription)["value"] == 4.0
