"""Names of ours in MQTT, and back."""

from __future__ import annotations

from hashlib import sha256
from secrets import token_hex
from typing import Final

from schemas.topics import check_topic

#: The user property that carries a message's key.
KEY: Final = "key"


def mqtt_topic(topic: str) -> str:
    """``plant.press.pressure`` is ``plant/press/pressure``: wildcards and access rules work by level.

    No '/' is in a name of ours, so no two become one. Raises `ConfigurationError` for what is no topic.
    """
    return check_topic(topic).replace(".", "/")


def session_id(group: str, topic: str) -> str:
    """The client id of a group's session for a topic: 23 letters and digits, which every server takes (3.1.3.1)."""
    return "iotcloud" + sha256(f"{group}\0{topic}".encode()).hexdigest()[:15]


def passing_id() -> str:
    """A client id for a connection that leaves no session."""
    return "iotcloud" + token_hex(7)
