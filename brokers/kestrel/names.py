"""What topics and their groups are called on a server.

A topic ``a.b`` is the queue ``a:b``, a group ``g`` of its readers the fan-out queue ``a:b+g``: a queue's name must not hold
a dot, and a topic's never holds a colon, so no two topics become one queue.
"""

from __future__ import annotations

from typing import Final

from schemas.errors import ConfigurationError
from schemas.topics import check_topic

#: A journal is a file named for its queue, with up to 20 bytes more while it is rewritten; a file's name has at most 255.
_LONGEST: Final = 235


def queue_of(topic: str) -> str:
    """The queue that messages of ``topic`` are put into. Raises `ConfigurationError` for a wrong topic."""
    return check_topic(topic).replace(".", ":")


def fanout_queue_of(topic: str, group: str) -> str:
    """The queue that readers of ``group`` take from. Raises `ConfigurationError` for a wrong topic or group."""
    try:
        check_topic(group)
    except ConfigurationError as error:
        raise ConfigurationError(f"{group!r} cannot name a group of readers", remedy=error.remedy) from None
    name = f"{queue_of(topic)}+{group.replace('.', ':')}"
    if len(name) > _LONGEST:
        raise ConfigurationError(
            f"topic {topic!r} and group {group!r} are too long for a queue's name", remedy=f"{_LONGEST - 1} bytes for both"
        )
    return name
