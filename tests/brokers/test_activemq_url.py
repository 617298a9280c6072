"""What a URL of ActiveMQ may say, and what needs no server."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import brokers.activemq
from brokers import BrokerRefused, connect
from brokers.activemq.names import read_from
from brokers.activemq.transport import WireTransport
from brokers.activemq.wire import Wire
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import PATIENCE
from tests.servers.ports import free_port


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("stomp://host/path", "stomp://HOST"),
        ("stomp:host", "stomp://HOST"),
        ("stomp://host?heartbeats=5s", "did you mean 'heartbeat'"),
        ("stomp://host?ca=/ca.pem", "stomp+ssl"),
        ("stomp+ssl://host?cert=/cert.pem", "belong together"),
        ("stomp://host?prefetch=0", "prefetch"),
        ("stomp://host?connect_timeout=0s", "connect_timeout"),
        ("stomp://me: secret@host", "begins or ends with a blank"),
    ],
)
def test_what_a_url_may_not_say(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_is_in_nothing_that_is_shown() -> None:
    broker = connect("stomp://me:secret@host")
    for part in (broker, broker.publisher(), broker.queue_reader(["topic"], group="g")):
        assert "secret" not in repr(part) + repr(vars(part))


def test_files_for_tls_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    broker = connect(f"stomp+ssl://127.0.0.1:{free_port()}?ca={tmp_path}/missing.pem")
    with closing(broker.queue_reader(["topic"], group="g")) as reader, pytest.raises(BrokerRefused, match=r"missing\.pem"):
        reader.poll(max_messages=1, timeout=1)


def test_without_the_client_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stomp", None)
    with pytest.raises(ConfigurationError) as caught:
        connect("stomp://host")
    assert "pip install 'iotcloud[activemq]'" in str(caught.value)


def test_the_sample_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEMQ_PASSWORD", "secret")
    loaded = load_config(Path(brokers.activemq.__file__).parent / "sample.toml")
    assert [type(broker).__name__ for broker in loaded.brokers().values()] == ["ActiveMqBroker"]


def test_no_group_can_leave_its_place_in_the_name_of_a_queue() -> None:
    assert read_from("a.b", "g") == "/queue/Consumer.g.VirtualTopic.a.b"
    assert read_from("a.b", "x.y,z>*") == "/queue/Consumer.x%2Ey%2Cz%3E%2A.VirtualTopic.a.b"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_signs_of_life_between_frames_do_not_tear_them(size: int) -> None:
    body = b"\0\n\n\0MESSAGE\n\n\0"
    message = b"MESSAGE\nsubscription:0\ncontent-length:%d\n\n%s\0" % (len(body), body)
    stream = b"\n\n" + message + b"\n\n\n" + message + b"\n" + message
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport = WireTransport(Wire(ours, lambda: False), lambda seconds: True)
    listener = Listener()
    transport.set_listener("test", listener)
    with closing(theirs):
        transport.start()
        for begin in range(0, len(stream), size):
            theirs.sendall(stream[begin : begin + size])
    assert listener.ended.wait(PATIENCE)
    assert listener.bodies == [body] * 3


class Listener:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ended = threading.Event()

    def on_message(self, frame: Any) -> None:
        self.bodies.append(frame.body)

    def on_disconnected(self) -> None:
        self.ended.set()
