"""Topics and groups as ActiveMQ's virtual topics name them.

What is published to ``VirtualTopic.TOPIC`` the server copies into every queue ``Consumer.GROUP.VirtualTopic.TOPIC`` that
exists (https://activemq.apache.org/components/classic/documentation/virtual-destinations). Names of topics need no change,
dots and all. A group is one element of that path, so what could end it is written as in URLs.
"""

from __future__ import annotations

from urllib.parse import quote


def published_to(topic: str) -> str:
    return f"/topic/VirtualTopic.{topic}"


def read_from(topic: str, group: str) -> str:
    return f"/queue/Consumer.{quote(group, safe='').replace('.', '%2E')}.VirtualTopic.{topic}"
