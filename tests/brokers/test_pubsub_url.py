"""What a ``pubsub:`` URL may say, and what it does before it reaches a server."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from brokers import BrokerRefused, Message, PublishError, connect
from brokers.pubsub.names import subscriptions_of, topic_of
from brokers.url import parse_url
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import ROOT
from tests.servers.broker_server import Servers


def test_no_two_topics_and_groups_have_one_name() -> None:
    topics = [
        "a",
        "ab",
        "abc",
        "t.abc",
        "goog",
        "google.x",
        "t.google.x",
        "1.x",
        ".",
        "..",
        "-",
        "_x",
        "T",
        "t",
        "x" * 200,
        "9" * 200,
    ]
    paths = {topic_of("p", topic).path for topic in topics}
    assert len(paths) == len(topics)
    groups = ["a", "A", "a+b", "a b", "ä", "a/b", "a%2Fb", "t~a"]
    names = {subscriptions_of("p", [topic], group)[0].path for topic in topics for group in groups}
    assert len(names) == len(topics) * len(groups)
    for path in paths | names:
        name = path.rpartition("/")[2]
        assert 3 <= len(name) <= 255
        assert name[0].isalpha()
        assert not name.startswith("goog")
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+%")


@pytest.mark.parametrize("group", ["", "x" * 250])
def test_a_group_that_makes_no_name_is_refused(group: str) -> None:
    with pytest.raises(ConfigurationError, match="the group"):
        connect("pubsub://project").queue_reader(["some.topic"], group=group)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("pubsub:", "names no project"),
        ("pubsub://project/topic", "names no project"),
        ("pubsub://project:80", "names no project"),
        ("pubsub://project?ack_dedline=20s", "did you mean 'ack_deadline'"),
        ("pubsub://project?ack_deadline=5s", "ack_deadline must be 10s to 600s"),
        ("pubsub://project?retention=30d", "retention must be 10m to 7d"),
        ("pubsub://project?max_outstanding=0", "at least 1"),
        ("pubsub://project?emulator=localhost:1&ca=ca.pem", "an emulator takes no"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_opened(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        connect(url)


def test_a_missing_client_library_is_named_with_its_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.pubsub_v1", None)
    with pytest.raises(ConfigurationError) as caught:
        connect("pubsub://project")
    assert caught.value.remedy == "pip install 'iotcloud[pubsub]'"


def test_what_is_durable_is_the_service_and_not_its_emulator() -> None:
    assert connect("pubsub://project").capabilities.durable
    emulated = connect("pubsub://project?emulator=localhost:8085").capabilities
    assert not emulated.durable
    assert "forgets" in emulated.notes


def test_an_emulator_may_be_named_by_the_environment(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", parse_url(servers["pubsub"].url()).options["emulator"])
    with closing(connect("pubsub://tests").publisher()) as publisher:
        publisher.publish([Message("some.topic", "key", b"value")])
    assert connect("pubsub://tests?endpoint=pubsub.example").capabilities.durable


def test_what_is_no_key_file_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"type": "service_account", "private_key": "hush"}')
    for credentials in (f"file:{tmp_path}/key.json", "hush"):
        broker = connect(f"pubsub://project?credentials={credentials}")
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish([Message("some.topic", "key", b"value")], timeout=5)
        assert "credentials=file:PATH" in caught.value.remedy
        assert caught.value.refused == ()
        assert "hush" not in repr(caught.value) + str(caught.value) + broker.url + repr(broker)


def test_an_environment_without_credentials_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    reader = connect("pubsub://project").queue_reader(["some.topic"], group="tests")
    with closing(reader), pytest.raises(BrokerRefused, match="no credentials in the environment") as caught:
        reader.poll(max_messages=1, timeout=5)
    assert "gcloud auth" in caught.value.remedy


def test_a_certificate_authority_that_cannot_be_read_is_named(servers: Servers) -> None:
    url = servers["pubsub"].tls_url()
    assert url
    path = parse_url(url).options["ca"]
    with closing(connect(url.replace(path, "/nowhere/ca.pem")).publisher()) as publisher, pytest.raises(PublishError) as caught:
        publisher.publish([Message("some.topic", "key", b"value")], timeout=5)
    assert "/nowhere/ca.pem" in caught.value.message


def test_the_sample_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.setenv("PUBSUB_PROJECT", "my-project")
    monkeypatch.setenv("PUBSUB_CREDENTIALS", str(tmp_path / "key.json"))
    (broker,) = load_config(ROOT / "brokers" / "pubsub" / "sample.toml").brokers().values()
    assert broker.url.startswith("pubsub://")
    assert broker.capabilities.durable


def test_what_is_closed_says_so_at_once() -> None:
    broker = connect("pubsub://project?emulator=localhost:1")
    publisher = broker.publisher()
    publisher.close()
    began = time.monotonic()
    with pytest.raises(PublishError, match="closed") as caught:
        publisher.publish([Message("some.topic", "key", b"value")], timeout=60)
    assert caught.value.unacknowledged == (0,)
    assert "some.topic" in caught.value.message
    assert time.monotonic() - began < 30
