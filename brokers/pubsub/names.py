"""Our names of topics and groups as resource names of Pub/Sub.

An id there has 3 to 255 of ``[A-Za-z0-9-_.~+%]``, begins with a letter and not with ``goog``
(https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names). Ours have neither ``~`` nor ``+``, so that
these can mark what was added without two names becoming one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from schemas.errors import ConfigurationError
from schemas.topics import check_topic

_AS_IT_IS: Final = re.compile(r"(?!goog)[A-Za-z].{2,}")
_LONGEST: Final = 255


class Topic(NamedTuple):
    """``name`` is ours, ``path`` the service's."""

    name: str
    path: str


class Subscription(NamedTuple):
    """What the readers of a group share of a topic."""

    topic: Topic
    path: str


def topic_of(project: str, name: str) -> Topic:
    """Raises `ConfigurationError` for a wrong name."""
    return Topic(name, f"projects/{project}/topics/{_topic_id(name)}")


def subscriptions_of(project: str, topics: Sequence[str], group: str) -> list[Subscription]:
    """The subscriptions of a group. Raises `ConfigurationError` for a wrong topic, or a group that makes no name."""
    return [_subscription(project, topic, group) for topic in dict.fromkeys(topics)]


def _subscription(project: str, topic: str, group: str) -> Subscription:
    name = f"{_topic_id(topic)}+{quote(group, safe='')}"
    if not group or len(name) > _LONGEST:
        raise ConfigurationError(
            f"topic {topic!r}: the group {group!r} makes no name of a subscription",
            remedy=f"a name that is not empty, and with that of the topic has at most {_LONGEST - 3} letters",
        )
    return Subscription(topic_of(project, topic), f"projects/{project}/subscriptions/{name}")


def _topic_id(topic: str) -> str:
    return topic if _AS_IT_IS.fullmatch(check_topic(topic)) else f"t~{topic}"
