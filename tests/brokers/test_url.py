"""Broker URLs: their parts, their options, and that nothing secret is ever shown."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import connect
from brokers.url import Host, directory_of, parse_url, split_topics
from schemas.errors import ConfigurationError
from settings import Bytes, Seconds


class Options(msgspec.Struct, frozen=True):
    partitions: int = 1
    retention_age: Seconds = Seconds(0)
    max_message_bytes: Bytes = Bytes(1_000)
    fsync: bool = True
    tls_password: str = ""


@pytest.mark.parametrize(
    ("text", "hosts", "path"),
    [
        ("kafka://h1:9092,h2:9093", (Host("h1", 9092), Host("h2", 9093)), ""),
        ("amqp://broker/vhost", (Host("broker", None),), "vhost"),
        ("amqp://broker:5672/%2F", (Host("broker", 5672),), "/"),
        ("mqtt://[::1]:1883", (Host("::1", 1883),), ""),
        ("pubsub://project", (Host("project", None),), ""),
        ("local:relative/dir", (), "relative/dir"),
        ("local:/absolute/dir", (), "/absolute/dir"),
        ("local:/with%20space", (), "/with space"),
    ],
)
def test_the_parts_of_a_url(text: str, hosts: tuple[Host, ...], path: str) -> None:
    url = parse_url(text, {})
    assert (url.hosts, url.path, url.redacted) == (hosts, path, text)


def test_a_password_may_hold_any_character_because_it_is_expanded_last() -> None:
    url = parse_url("amqp://relay:${SECRET}@broker:5672/v", {"SECRET": "a@b:c/d?e=f&g%41"})
    assert (url.user, url.password, url.hosts) == ("relay", "a@b:c/d?e=f&g%41", (Host("broker", 5672),))
    assert url.redacted == "amqp://relay:${SECRET}@broker:5672/v"
    assert "a@b" not in repr(url)


@pytest.mark.parametrize("text", ["kafka://${HOSTS:-localhost:9092}", "${URL}", "kafka://${NAME}:${PORT}"])
def test_variables_stand_for_any_part(text: str) -> None:
    environment = {"URL": "kafka://localhost:9092", "NAME": "localhost", "PORT": "9092"}
    assert parse_url(text, environment).hosts == (Host("localhost", 9092),)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the variable ABSENT is not set"):
        parse_url("amqp://user:${ABSENT}@broker", {})


@pytest.mark.parametrize(
    "text", ["amqp://user:hunter2@broker/v", "kafka://broker?sasl_password=hunter2", "mqtt://u:hunter2@h?token=hunter2"]
)
def test_a_literal_secret_is_shown_nowhere(text: str) -> None:
    url = parse_url(text + ("&" if "?" in text else "?") + "unknown=1", {})
    assert "hunter2" not in url.redacted
    assert "hunter2" not in repr(url)
    with pytest.raises(ConfigurationError) as caught:
        url.options_as(Options)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "amqp://gw:hun/ter2@host/v",
        "amqp://gw:hun?ter2@host/v",
        "amqp://gw:1/hunter2@host/v",
        "amqp://gw:hun?x=ter2@host/v",
        "amqp://gw:hun@ter/2@host/v",
        "amqp://gw:hun/ter2@host",
        "amqp://gw@corp:hun/ter2@host/v",
        "amqp://gw:hunter2",
        "amqp://gw:hunter2/v",
        "amqp://gw:hunter2@ho st:port/v",
        "mqtt:gw:hunter2@host",
        "gw:hunter2@host",
        "gw:hunter2@host:1883/v?a=1",
        "AMQP://gw:hunter2@host/v",
        "amqp//gw:hunter2@host/v",
    ],
)
def test_a_mistyped_url_shows_no_part_of_its_password(text: str) -> None:
    errors = []
    for use in (parse_url, split_topics, connect):
        try:
            use(text)
        except ConfigurationError as error:
            errors.append(str(error) + error.remedy)
    assert errors
    with suppress(ConfigurationError):
        errors.append(parse_url(text).redacted)
    assert not [error for error in errors if "hun" in error or "ter2" in error]


@given(st.text(alphabet="aZ1/?@:&=.%", min_size=1, max_size=8))
def test_whatever_a_password_is_no_error_shows_it(password: str) -> None:
    secret = f"hun{password}ter2"
    try:
        shown = parse_url(f"amqp://gw:{secret}@host:5672/v", {}).redacted
    except ConfigurationError as error:
        shown = str(error)
    assert "hun" not in shown
    assert "ter2" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "amqp://gw:${SECRET}@host/v?ca=/etc/a@b.pem",
        "local:/var/lib/log@1?partitions=2",
        "kafka://h1:9092,h2:9093?ca=/etc/a.pem",
        "kafka://[::1]:9092,h:${PORT}",
        "mqtt://gw@host?ca=/etc/a.pem",
    ],
)
def test_what_is_no_password_is_shown(text: str) -> None:
    assert parse_url(text, {"SECRET": "x", "PORT": "1"}).redacted == text


def test_options_come_typed_with_defaults_for_the_rest() -> None:
    url = parse_url("local:dir?partitions=4&retention_age=2h&max_message_bytes=5MB&fsync=false", {})
    assert url.options_as(Options) == Options(4, Seconds(7200), Bytes(5_000_000), fsync=False)


def test_a_secret_option_may_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    url = parse_url(f"kafka://h?tls_password=file:{tmp_path}/password", {})
    assert url.options_as(Options).tls_password == "hunter2"
    with pytest.raises(ConfigurationError, match="cannot read the secret file"):
        parse_url("kafka://h?tls_password=file:/absent/password", {}).options_as(Options)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("partition=4", "partition: unknown field; did you mean 'partitions'?"),
        ("partitions=four", "partitions: "),
        ("retention_age=soon", "'soon' is not a duration"),
        ("fsync=perhaps", "fsync: "),
        ("partitions", "the option 'partitions' has no value"),
    ],
)
def test_a_wrong_option_is_named(option: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(f"local:dir?{option}", {}).options_as(Options)
    assert problem in str(caught.value)
    assert "local:dir" in str(caught.value)


@pytest.mark.parametrize("text", ["", "broker", "://h", "/dir", "kafka://h:99999", "kafka://h:port", "Kafka"])
def test_what_is_no_url_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(text, {})
    assert "local:DIR" in caught.value.remedy


def test_a_local_url_without_a_directory_is_refused() -> None:
    for text in ("local:", "local://host/dir"):
        with pytest.raises(ConfigurationError, match="names no directory"):
            directory_of(parse_url(text, {}))


@pytest.mark.parametrize(
    ("text", "url", "topics"),
    [
        ("local:dir/a.b.c", "local:dir", ("a.b.c",)),
        ("local:/d/log/a,b?partitions=2", "local:/d/log?partitions=2", ("a", "b")),
        ("amqp://h:5672/vhost/t", "amqp://h:5672/vhost", ("t",)),
        ("kafka://h1:9092,h2:9092/t", "kafka://h1:9092,h2:9092", ("t",)),
    ],
)
def test_a_topic_after_a_url(text: str, url: str, topics: tuple[str, ...]) -> None:
    assert split_topics(text) == (url, topics)


@pytest.mark.parametrize("text", ["local:dir", "kafka://h:9092", "kafka://h:9092/", "local:dir/bad topic", "local:/t"])
def test_a_url_without_a_topic_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        split_topics(text)
