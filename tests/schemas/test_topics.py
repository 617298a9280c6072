"""Names of topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from schemas.topics import MAX_LENGTH, MAX_PART, check_part, check_topic, commands_topic, event_topic, results_topic

PARTS = st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True)


def test_the_topics_of_a_channel() -> None:
    assert event_topic("plant-1", "wsn", "humidity") == "plant-1.wsn.humidity"
    assert event_topic("plant-1", "wsn", "humidity", device="mote-7") == "plant-1.wsn.mote-7.humidity"
    assert (commands_topic("gw-1"), results_topic("gw-1")) == ("gw-1.commands", "gw-1.results")


@given(PARTS, PARTS, PARTS, st.none() | PARTS)
def test_parts_can_be_told_from_the_name(site: str, app: str, channel: str, device: str | None) -> None:
    name = check_topic(event_topic(site, app, channel, device=device))
    assert name.split(".") == [part for part in (site, app, device, channel) if part is not None]


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "ä", "a\n", "a:b", "x" * (MAX_LENGTH + 1), "${A}"])
def test_what_is_no_topic_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a topic name"):
        check_topic(name)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "é", "a\n", "x" * (MAX_PART + 1)])
def test_what_cannot_be_part_of_a_topic_is_refused_as_what_it_is(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a device"):
        event_topic("site", "app", "channel", device=name)
    with pytest.raises(ConfigurationError, match="cannot name a gateway"):
        commands_topic(name)
    with pytest.raises(ConfigurationError, match="cannot name a thing"):
        check_part("thing", name)


def test_a_topic_of_long_parts_is_refused_as_a_whole() -> None:
    with pytest.raises(ConfigurationError, match="is not a topic name"):
        event_topic("s" * 100, "a" * 100, "c")
    assert len(check_topic("t" * MAX_LENGTH)) == MAX_LENGTH


def test_the_longest_part_names_a_gateway_with_topics() -> None:
    assert len(commands_topic("g" * MAX_PART)) == MAX_LENGTH
    assert results_topic("g" * MAX_PART)
