"""A client reads a device's events from the broker, decoded by the schema of their fingerprint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from master.client import Client, MasterRefused, MasterUnavailable, Unreadable
from schemas.control import EpochStart, encode_control
from schemas.errors import ConfigurationError
from schemas.registry import event_schema, shipped
from schemas.topics import event_topic
from tests.master.gateways import RpcGateway, publish, publish_readings, registration

Connect = Callable[[], RpcGateway]


def _device(connect: Connect, broker_url: str, name: str, **more: object) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url, site=name, **more))  # type: ignore[arg-type]
    gateway.heartbeat(name, devices=(f"{name}-pump",))


def test_events_come_decoded_from_the_beginning_or_from_now_on(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    _device(connect, broker_url, name)
    pump = client.device(f"{name}-pump")
    publish_readings(broker_url, name, f"{name}-pump", [1.0, 2.0], site=name)
    publish_readings(broker_url, name, "another", [7.0], first=2, site=name)
    everything = pump.subscribe("pressure", start="beginning", timeout=0.5)
    from_now = pump.subscribe("pressure", timeout=0.5)
    publish_readings(broker_url, name, f"{name}-pump", [3.0], first=3, site=name)

    events = list(everything)
    assert [event["value"] for event in events] == [1.0, 2.0, 3.0]
    assert events[0]["event_time"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert [event["value"] for event in from_now] == [3.0]


def test_a_schema_of_the_users_own_is_fetched_from_the_master(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    record = shipped("Reading").record
    fields = [*record["fields"], {"name": "unit", "type": "string", "default": ""}]
    schema = event_schema({**record, "name": f"Own{name}", "fields": fields})
    _device(connect, broker_url, name, schema=schema)
    publish_readings(broker_url, name, f"{name}-pump", [1.0], site=name, schema=schema, more={"unit": "bar"})
    (event,) = client.device(f"{name}-pump").subscribe("pressure", start="beginning", timeout=0.5)
    assert event["unit"] == "bar"


def test_what_cannot_be_read_is_told_and_skipped_and_repeated_frames_come_once(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    _device(connect, broker_url, name)
    topic = event_topic(name, "pumps", "pressure")
    publish(broker_url, topic, name, encode_control(EpochStart(name, 1, None, None)))
    frame = publish_readings(broker_url, name, f"{name}-pump", [1.0, 2.0], site=name)
    unknown = b"\xc3\x01" + b"\x01" * 8 + frame[10:]
    for value in (frame, frame[:-3], unknown, b"rubbish", frame):
        publish(broker_url, topic, name, value)
    publish_readings(broker_url, name, f"{name}-pump", [3.0], first=2, site=name)
    told: list[Unreadable] = []
    events = list(client.device(f"{name}-pump").subscribe("pressure", start="beginning", timeout=0.5, unreadable=told.append))
    assert [event["value"] for event in events] == [1.0, 2.0, 3.0]
    assert [one.value for one in told] == [frame[:-3], unknown, b"rubbish"]
    assert "unknown schema fingerprint 0101010101010101" in told[1].reason


def test_closing_from_another_thread_ends_the_iteration(connect: Connect, client: Client, broker_url: str, name: str) -> None:
    _device(connect, broker_url, name)
    subscription = client.device(f"{name}-pump").subscribe("pressure")
    threading.Timer(0.1, subscription.close).start()
    assert list(subscription) == []


def test_a_wrong_channel_url_or_token_is_an_error_with_a_remedy(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    _device(connect, broker_url, name)
    with pytest.raises(ConfigurationError, match="did you mean 'pressure'"):
        client.device(f"{name}-pump").subscribe("presure")
    with pytest.raises(MasterUnavailable, match="is it running"):
        Client("http://127.0.0.1:1").sites()
    with pytest.raises(ConfigurationError, match="not the URL of a master"):
        Client("127.0.0.1:1")
    with pytest.raises(MasterRefused, match="give the master's token") as refused:
        Client(client._http.url, "wrong").sites()
    assert refused.value.status == 401
    with pytest.raises(ConfigurationError, match="did you mean 'site'"):
        client.topics("sit=x")
