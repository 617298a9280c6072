"""What an MQTT URL may say, and what needs no server."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from brokers import Message, PublishError, connect
from brokers.mqtt.call import Call
from brokers.mqtt.names import mqtt_topic, session_id
from brokers.mqtt.options import target_of
from brokers.url import parse_url
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import ROOT


def test_topics_are_levels_and_sessions_have_ids_that_every_server_takes() -> None:
    assert mqtt_topic("plant.press_1.pressure-2") == "plant/press_1/pressure-2"
    with pytest.raises(ConfigurationError):
        mqtt_topic("plant/press")
    ids = {session_id(group, topic) for group in ("a", "b", "a\0b") for topic in ("a", "b", "b.a")}
    assert len(ids) == 9
    assert all(len(name) <= 23 and name.isalnum() and name.isascii() for name in ids)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mqtt:", "names no host"),
        ("mqtt://", "names no host"),
        ("mqtt://host/vhost", "'vhost' is too much"),
        ("mqtt://host?windw=5", "did you mean 'window'"),
        ("mqtt://host?window=0", "window must be 1 to 65535"),
        ("mqtt://host?writes_every=0", "writes_every must be 1 to 10000"),
        ("mqtt://host?keepalive=0", "keepalive must be"),
        ("mqtt://host?connect_timeout=0", "connect_timeout must be"),
        ("mqtt://host?session_expiry=200y", "session_expiry"),
        ("mqtt://host?max_message_bytes=1GB", "max_message_bytes must be"),
        ("mqtt://host?ca=ca.pem", "certificates are for TLS"),
        ("mqtts://host?key=client.key", "key without cert"),
        ("mqtt://:secret@host", "a password without a user"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_opened(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "very-secret")
    for url in ("mqtt://user:${MQTT_PASSWORD}@host", "mqtt://user:very-secret@host"):
        broker = connect(url)
        assert "very-secret" not in broker.url + repr(broker) + repr(vars(broker))


def test_a_key_that_mqtt_cannot_carry_is_refused() -> None:
    with closing(connect("mqtt://127.0.0.1:1").publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message("a", key, b"value") for key in ("NUL \0", "\ud800", "x" * 65_536)], timeout=1)
    assert caught.value.refused == (0, 1, 2)


def test_a_missing_client_library_is_named_with_its_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigurationError) as caught:
        connect("mqtt://host")
    assert caught.value.remedy == "pip install 'iotcloud[mqtt]'"


def test_the_sample_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "in-the-sample")
    loaded = load_config(Path(ROOT) / "brokers" / "mqtt" / "sample.toml")
    (broker,) = loaded.brokers().values()
    assert broker.url.startswith("mqtts://gw-1:***@mqtt.example.com:8883")


def test_what_follows_a_message_that_failed_is_published_again_after_it() -> None:
    target = target_of(parse_url("mqtt://host"))
    messages = [Message("t", key, b"value") for key in "aabbab"]
    call = Call(target, messages)
    for index in call.to_send(None):
        call.sent(index, packet_id=100 + index)
    quota_exceeded, success, payload_format_invalid = 0x97, 0x00, 0x99
    for index, code in enumerate([success, quota_exceeded, payload_format_invalid, success, success, success]):
        call.answered(100 + index, code)
    error = call.error()
    assert error is not None
    assert error.refused == (2,)
    assert error.unacknowledged == (1, 2, 4)
