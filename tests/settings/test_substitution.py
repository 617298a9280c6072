"""Variables and secrets in configuration values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from settings import expand, redact
from settings.substitution import secret

ENVIRONMENT = {"A": "1", "B": "two", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${B}z", "x1ytwoz"),
        ("${ABSENT:-default}", "default"),
        ("${ABSENT:-}", ""),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${A:-default}", "1"),
        ("${A:?must be set}", "1"),
        ("$A $ { ${} ${1}", "$A $ { ${} ${1}"),
    ],
)
def test_variables(text: str, expanded: str) -> None:
    assert expand(text, ENVIRONMENT, origin="gateway.toml") == expanded


def test_variables_are_expanded_wherever_they_stand() -> None:
    data = {"a": ["${A}", {"b": "${B}"}], "n": 5, "t": True}
    assert expand(data, ENVIRONMENT, origin="x") == {"a": ["1", {"b": "two"}], "n": 5, "t": True}


def test_a_value_is_not_expanded_again() -> None:
    assert expand("${X}", {"X": "${A}", "A": "1"}, origin="x") == "${A}"


@pytest.mark.parametrize("text", ["${ABSENT}", "${ABSENT:?the broker's password}", "${EMPTY:?the broker's password}"])
def test_a_variable_that_is_not_set_is_named_with_the_place(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        expand({"transport": {"url": text}}, ENVIRONMENT, origin="gateway.toml")
    assert caught.value.message.startswith("gateway.toml")
    assert "transport.url" in caught.value.message
    assert ("the broker's password" in caught.value.message) == (":?" in text)
    assert caught.value.remedy


def test_a_secret_is_itself_or_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    assert secret("hunter3", origin="x") == "hunter3"
    assert secret(f"file:{tmp_path}/password", origin="x") == "hunter2"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.toml.*absent: No such file"):
        secret(f"file:{tmp_path}/absent", origin="gateway.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="binary"):
        secret(f"file:{tmp_path}/binary", origin="gateway.toml")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://user:hunter2@host:5672/v", "amqp://user:***@host:5672/v"),
        ("a://u:p@h and b://v:q@i", "a://u:***@h and b://v:***@i"),
        ("amqp://user@host", "amqp://user@host"),
        ("mail me@example.org at 12:30", "mail me@example.org at 12:30"),
    ],
)
def test_passwords_of_urls_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(st.from_regex(r"[^/@:\s]{1,10}", fullmatch=True), st.from_regex(r"[^\s/@]{1,20}", fullmatch=True))
def test_no_password_survives_whatever_it_holds(user: str, password: str) -> None:
    shown = redact(f"amqp://{user}:{password}@host/vhost")
    assert shown == f"amqp://{user}:***@host/vhost"
