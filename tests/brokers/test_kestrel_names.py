"""Kestrel's URLs, names of queues and items, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import brokers.kestrel
from brokers import BrokerUnavailable, connect
from brokers.kestrel.envelope import head, in_order, open_item
from brokers.kestrel.names import fanout_queue_of, queue_of
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.servers.ports import free_port

TOPIC = "site.app.channel"


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("kestrel:directory", "names no server"),
            ("kestrel://host/queue", "names no server"),
            ("kestrel://user@host", "no users and passwords"),
            ("kestrel://host?open_read=1", "open_reads"),
            ("kestrel://host?open_reads=0", "at least 1"),
            ("kestrel://host?answer_timeout=0s", "more than 0"),
            ("kestrel://host?ca=file", "ca"),
        ],
    )
    def test_what_is_wrong_is_said(self, url: str, said: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            connect(url)
        assert said in str(caught.value)

    def test_a_password_is_refused_and_not_shown(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            connect("kestrel://user:hidden@host")
        assert "hidden" not in str(caught.value)

    def test_the_sample_is_a_configuration(self) -> None:
        loaded = load_config(Path(brokers.kestrel.__file__).with_name("sample.toml"))
        (broker,) = loaded.brokers().values()
        assert broker.capabilities.max_message_bytes == 4_000_000

    def test_a_group_that_is_no_name_or_too_long_is_refused(self) -> None:
        broker = connect("kestrel://host")
        for group in ("", "a+b", "a/b", "g" * 34 + "h"):
            with pytest.raises(ConfigurationError):
                broker.queue_reader(["t" * 200], group=group)
        broker.queue_reader(["t" * 200], group="g" * 34)

    def test_keeping_and_making_name_a_server_that_is_not_there(self) -> None:
        broker = connect(f"kestrel://127.0.0.1:{free_port()}")
        for call in (broker.create_topic, lambda topic: broker.keep([topic], group="g")):
            with pytest.raises(BrokerUnavailable) as caught:
                call(TOPIC)
            assert broker.url in caught.value.message
            assert TOPIC in caught.value.message
            assert caught.value.remedy


class _Item(NamedTuple):
    run: bytes
    number: int


class TestNames:
    topics = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)

    @given(topics, topics, topics, topics)
    def test_no_two_become_one(self, one: str, group: str, other: str, another_group: str) -> None:
        assert (queue_of(one) == queue_of(other)) == (one == other)
        same = fanout_queue_of(one, group) == fanout_queue_of(other, another_group)
        assert same == ((one, group) == (other, another_group))
        assert not set(fanout_queue_of(one, group)) & set("/~. ")


class TestEnvelope:
    @given(st.binary(min_size=8, max_size=8), st.integers(0, 2**64 - 1), st.text(max_size=50), st.binary(max_size=50))
    def test_what_is_put_in_comes_out(self, run: bytes, number: int, key: str, value: bytes) -> None:
        assert open_item(head(run, number, key.encode()) + value) == (run, number, key, value)

    @given(st.binary(max_size=60), st.integers(0, 30))
    def test_anything_else_is_a_value(self, item: bytes, cut: int) -> None:
        assert open_item(item)[3] == item
        whole = head(b"run run ", 1, b"a key that is long enough")
        assert open_item(whole[:cut]) == (b"", 0, "", whole[:cut])
        later = whole[:3] + b"\x02" + whole[4:]
        assert open_item(later) == (b"", 0, "", later)
        assert open_item(head(b"run run ", 1, b"\xff"))[3] == head(b"run run ", 1, b"\xff")

    def test_runs_are_put_in_order_each_in_its_own_places(self) -> None:
        items = [_Item(*one) for one in ((b"a", 3), (b"", 0), (b"b", 2), (b"a", 2), (b"b", 1), (b"a", 1))]
        assert [(item.run, item.number) for item in in_order(items)] == [
            *((b"a", 1), (b"", 0), (b"b", 1)),
            *((b"a", 2), (b"b", 2), (b"a", 3)),
        ]
