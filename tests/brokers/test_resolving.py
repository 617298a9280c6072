"""Looking up a host's addresses keeps the caller's deadline, whatever the name server does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from brokers import Message, PublishError, connect
from brokers.resolving import addresses_of
from tests.brokers.patience import ended_within


@pytest.fixture
def silent_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As `socket.getaddrinfo` is with one that does not answer; numbers need none."""
    over = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(*arguments: Any, flags: int = 0, **options: Any) -> Any:
        if not flags & socket.AI_NUMERICHOST:
            over.wait()
        return real(*arguments, flags=flags, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    over.set()


def soon() -> float:
    return time.monotonic() + 0.2


def test_names_and_numbers_are_found() -> None:
    for host, address in (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", "127.0.0.1")):
        found = addresses_of(host, 80, deadline=time.monotonic() + 30, ended=lambda: False)
        assert address in {where[3][0] for where in found}
        assert {where[1] for where in found} == {socket.SOCK_STREAM}


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "a..b"])
def test_a_name_without_an_address_is_told(host: str) -> None:
    with pytest.raises(socket.gaierror):
        addresses_of(host, 80, deadline=time.monotonic() + 30, ended=lambda: False)


@pytest.mark.usefixtures("silent_name_server")
def test_the_deadline_holds_and_closing_ends_it() -> None:
    with ended_within(30):
        with pytest.raises(TimeoutError, match="where some-host is"):
            addresses_of("some-host", 80, deadline=soon(), ended=lambda: False)
        with pytest.raises(ConnectionAbortedError):
            addresses_of("some-host", 80, deadline=time.monotonic() + 300, ended=lambda: True)
        assert addresses_of("127.0.0.1", 80, deadline=soon(), ended=lambda: False)


@pytest.mark.usefixtures("silent_name_server")
@pytest.mark.parametrize("url", ["stomp://some-host:61613", "kestrel://some-host:22133"])
def test_publishing_keeps_its_deadline(url: str) -> None:
    with closing(connect(url).publisher()) as publisher, ended_within(30), pytest.raises(PublishError) as caught:
        publisher.publish([Message("some.topic", "key", b"value")], timeout=0.3)
    assert caught.value.refused == ()
    assert "some-host" in caught.value.message
