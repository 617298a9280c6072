"""What a gateway says when it registers is what the REST interface shows, or it is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec
import pytest

from master.client import Client
from schemas import rpc
from schemas.registry import EventSchema, event_schema, shipped
from tests.master.gateways import RpcGateway, registration

Connect = Callable[[], RpcGateway]


def test_a_registered_gateway_is_listed_with_all_it_said(
    connect: Connect, http: httpx.Client, client: Client, broker_url: str, name: str
) -> None:
    gateway = connect()
    terms = gateway.register(registration(name, broker_url, site=name, labels={"line": "3"}))
    assert terms == rpc.Registered(lease_seconds=60.0, heartbeat_seconds=5.0)
    gateway.heartbeat(name, devices=("pump-7",))

    (shown,) = client.gateways(site=name)
    assert (shown.gateway, shown.state, shown.epoch, shown.labels) == (name, "online", 1, {"line": "3"})
    assert shown.transports == [rpc.Transport("main", broker_url)]
    (application,) = client.applications(gateway=name)
    assert (application.state, application.available) == ("running", True)
    assert [command.name for command in application.commands] == ["set_speed", "stop"]
    channels = client.channels(gateway=name)
    assert [(one.channel, one.topic, one.broker, one.available) for one in channels] == [
        ("pressure", f"{name}.pumps.pressure", broker_url, True),
        ("temperature", f"{name}.pumps.temperature", broker_url, True),
    ]
    device = client.device("pump-7", gateway=name).info
    assert [(one.channel, one.seen) for one in device.channels] == [("pressure", True), ("temperature", False)]
    site = next(site for site in client.sites() if site.site == name)
    assert (site.online, site.lost) == (1, 0)


def test_filters_choose_by_site_gateway_device_channel_and_label(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    for number, line in ((1, "3"), (2, "4")):
        gateway = connect()
        gateway.register(registration(f"{name}-{number}", broker_url, site=name, labels={"line": line}))
        gateway.heartbeat(f"{name}-{number}", devices=(f"{name}-d{number}",), channels=("pressure", "temperature")[:number])
    assert [one.gateway for one in client.gateways(site=name, label="line:4")] == [f"{name}-2"]
    assert [one.device for one in client.devices(site=name)] == [f"{name}-d1", f"{name}-d2"]
    assert [one.device for one in client.devices(site=name, channel="temperature")] == [f"{name}-d2"]
    assert [one.gateway for one in client.channels(site=name, device=f"{name}-d1")] == [f"{name}-1"]
    assert client.devices(gateway=f"{name}-1", device=f"{name}-d2") == []


def test_lists_come_in_parts_that_make_the_whole(
    connect: Connect, http: httpx.Client, client: Client, broker_url: str, name: str
) -> None:
    gateway = connect()
    gateway.register(registration(name, broker_url, site=name))
    devices = tuple(f"d{number:02}" for number in range(25))
    gateway.heartbeat(name, devices=devices)
    found: list[str] = []
    after: str | None = None
    for _ in range(3):
        page = http.get("/api/v1/devices", params={"gateway": name, "limit": 10, **({"after": after} if after else {})}).json()
        found += [item["device"] for item in page["items"]]
        after = page["next"]
    assert after is None
    assert tuple(found) == devices


def test_channels_of_one_topic_are_one_topic_and_single_ones_have_one_for_each_device(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    for number in (1, 2):
        gateway = connect()
        gateway.register(registration(f"{name}-{number}", broker_url, site=name, single=("temperature",)))
        gateway.heartbeat(f"{name}-{number}", devices=(f"d{number}",), channels=("pressure", "temperature"))
    topics = {address.topic: address for address in client.topics(f"site={name}")}
    assert set(topics) == {f"{name}.pumps.pressure", f"{name}.pumps.d1.temperature", f"{name}.pumps.d2.temperature"}
    shared = topics[f"{name}.pumps.pressure"]
    assert shared.gateways == (f"{name}-1", f"{name}-2")
    assert (shared.broker_url, shared.reader) == (broker_url, shipped("Reading").fingerprint.hex())
    assert [address.topic for address in client.topics(f"site={name},channel=temperature,device=d2")] == [
        f"{name}.pumps.d2.temperature"
    ]
    selected = client.select(f"site={name},channel=pressure")
    assert selected.by_broker() == {broker_url: (f"{name}.pumps.pressure",)}
    assert selected.reader(selected.topics[0]) == shipped("Reading")


def test_a_schema_is_served_by_its_fingerprint_as_event_and_as_frame(
    connect: Connect, http: httpx.Client, client: Client, broker_url: str, name: str
) -> None:
    schema = event_schema({**shipped("Reading").record, "name": f"Own{name}"})
    connect().register(registration(name, broker_url, site=name, schema=schema))
    served = http.get(f"/api/v1/schemas/{schema.fingerprint.hex()}").json()
    assert served["event"] == schema.record
    assert served["frame"] == {"type": "array", "items": schema.record}
    assert client.schema(schema.fingerprint.hex()).record == schema.record
    assert http.get("/api/v1/schemas/0123456789abcdef").status_code == 404


def test_what_a_gateway_no_longer_has_is_gone_when_it_registers_again(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    first = connect()
    first.register(registration(name, broker_url, site=name))
    first.heartbeat(name, devices=("d1",))
    connect().register(registration(name, broker_url, site=name, epoch=2, channels=("pressure",)))
    assert [one.channel for one in client.channels(gateway=name)] == ["pressure"]
    assert [one.device for one in client.devices(gateway=name)] == ["d1"], "its application is still there"
    connect().register(registration(name, broker_url, site=name, epoch=3, application="fans"))
    assert [one.application for one in client.applications(gateway=name)] == ["fans"]
    assert client.devices(gateway=name) == []


def _broken(message: rpc.Register, **changes: object) -> rpc.Register:
    return msgspec.structs.replace(message, **changes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: _broken(m, gateway="a.b"), "cannot name a gateway"),
        (lambda m: _broken(m, gateway="g" * 192), "cannot name a gateway"),
        (lambda m: _broken(m, site=""), "cannot name a site"),
        (lambda m: _broken(m, commands_transport="other"), "commands_transport 'other'"),
        (lambda m: _broken(m, transports=(rpc.Transport("main", "kafka://u:secret@h:1"),)), "holds a secret"),
        (lambda m: _broken(m, transports=(rpc.Transport("main", "nonsense"),)), "not a broker URL"),
        (lambda m: _broken(m, applications=m.applications * 2), "application 'pumps' is there twice"),
        (lambda m: _channel(m, schema='{"type": "int"}'), "an event schema is an Avro record"),
        (lambda m: _channel(m, topic="has spaces"), "not a topic name"),
        (lambda m: _channel(m, transport="other"), "transport 'other' is not defined"),
        (lambda m: _channel(m, grouping="single"), "does not fit grouping"),
    ],
)
def test_a_registration_that_does_not_hold_together_is_refused_with_the_reason(
    connect: Connect,
    client: Client,
    broker_url: str,
    name: str,
    change: Callable[[rpc.Register], rpc.Register],
    reason: str,
) -> None:
    response = connect().ask("register", change(registration(name, broker_url, site=name)))
    assert response["error"]["code"] == rpc.REFUSED
    assert reason in response["error"]["message"]
    assert client.gateways(site=name) == [], "nothing of it is stored"


def _channel(message: rpc.Register, **changes: object) -> rpc.Register:
    application = message.applications[0]
    channels = (msgspec.structs.replace(application.channels[0], **changes), *application.channels[1:])
    return _broken(message, applications=(msgspec.structs.replace(application, channels=channels),))


def _with_fields(*fields: dict[str, object]) -> EventSchema:
    record = shipped("Reading").record
    return event_schema({**record, "fields": [*record["fields"], *fields]})


def test_an_incompatible_schema_for_a_channel_is_refused_where_it_is_registered(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    """The schemas of a topic always have one among them that reads all of it."""
    connect().register(registration(f"{name}-1", broker_url, site=name))
    wrong = event_schema(shipped("Reading").text.replace('"double"', '"string"'))
    response = connect().ask("register", registration(f"{name}-2", broker_url, site=name, schema=wrong))
    assert response["error"]["code"] == rpc.REFUSED
    assert "value" in response["error"]["message"]
    assert [one.gateway for one in client.gateways(site=name)] == [f"{name}-1"]

    wider = _with_fields({"name": "unit", "type": "string", "default": "bar"})
    connect().register(registration(f"{name}-2", broker_url, site=name, schema=wider))
    (address,) = client.topics(f"site={name},channel=pressure")
    assert address.reader == wider.fingerprint.hex()
    assert set(address.fingerprints) == {wider.fingerprint.hex(), shipped("Reading").fingerprint.hex()}


def test_an_older_schema_may_join_a_topic_whose_schema_reads_it(
    connect: Connect, client: Client, broker_url: str, name: str
) -> None:
    wider = _with_fields({"name": "unit", "type": "string", "default": "bar"})
    connect().register(registration(f"{name}-1", broker_url, site=name, schema=wider))
    connect().register(registration(f"{name}-2", broker_url, site=name))
    (address,) = client.topics(f"site={name},channel=pressure")
    assert address.reader == wider.fingerprint.hex()
    assert len(address.fingerprints) == 2
