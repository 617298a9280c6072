"""Names of topics, and of what they are made from."""

from __future__ import annotations

import re
from typing import Final

from schemas.errors import ConfigurationError

MAX_LENGTH: Final = 200
#: So long may a part be: a gateway's id, which takes ``.commands`` to name a topic, is one.
MAX_PART: Final = MAX_LENGTH - len(".commands")
#: Groups, the names under which queues hand out what they hold: of pipelines, and of the master, which reads results.
PIPELINES: Final = "iotcloud"
MASTER: Final = "iotcloud-master"
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]+")
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")


def check_topic(name: str) -> str:
    """Return ``name``. Raises `ConfigurationError` unless it is 1 to 200 of ``[A-Za-z0-9._-]``."""
    if not _TOPIC.fullmatch(name) or len(name) > MAX_LENGTH:
        raise ConfigurationError(f"{name!r} is not a topic name", remedy=f"1 to {MAX_LENGTH} letters, digits, '.', '_', '-'")
    return name


def check_part(kind: str, name: str) -> str:
    """Return ``name``. Raises `ConfigurationError`, calling it a ``kind``, when it cannot be part of a topic's name."""
    if not _PART.fullmatch(name) or len(name) > MAX_PART:
        raise ConfigurationError(
            f"{name!r} cannot name a {kind}", remedy=f"1 to {MAX_PART} letters, digits, '_' and '-'; '.' separates parts"
        )
    return name


def event_topic(site: str, app: str, channel: str, *, device: str | None = None) -> str:
    """The topic of a channel: grouped, or of one ``device``. Raises `ConfigurationError`."""
    parts = [("site", site), ("application", app), *([("device", device)] if device is not None else []), ("channel", channel)]
    return check_topic(".".join(check_part(kind, name) for kind, name in parts))


def commands_topic(gateway: str) -> str:
    """The topic that carries a gateway's commands, keyed by device."""
    return check_topic(f"{check_part('gateway', gateway)}.commands")


def results_topic(gateway: str) -> str:
    """The topic that carries the states of a gateway's commands, keyed by command id."""
    return check_topic(f"{check_part('gateway', gateway)}.results")
