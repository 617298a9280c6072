"""Making a group's sessions before it reads."""

from __future__ import annotations

import time
from collections.abc import Sequence

from brokers.backoff import Backoff
from brokers.mqtt.connection import Connection
from brokers.mqtt.failures import Failure
from brokers.mqtt.names import mqtt_topic, session_id
from brokers.mqtt.options import Target


def keep(target: Target, topics: Sequence[str], group: str, *, deadline: float) -> None:
    """Make the session of each topic, or see that it is there.

    There is no other way to see it than to connect as the group; a reader that is connected loses its connection by that,
    and makes another one by itself. Raises `BrokerUnavailable` when ``deadline`` (`time.monotonic`) has passed, and
    `BrokerRefused`.
    """
    for topic in topics:
        backoff = Backoff()
        while failure := _visit(target, topic, group, deadline):
            left = deadline - time.monotonic()
            if failure.final or left <= 0:
                raise failure.error(target.shown, [topic])
            time.sleep(min(backoff.next(), left))


def _visit(target: Target, topic: str, group: str, deadline: float) -> Failure | None:
    """Why it is not certain that there is a session which subscribes to the topic."""
    until = min(deadline, time.monotonic() + target.options.connect_timeout)
    name, session = mqtt_topic(topic), session_id(group, topic)
    connection = Connection(target, session, session=target.options.session_expiry, changed=lambda: None)
    try:
        return (
            connection.wait_open(until)
            or connection.wait_answered(connection.subscribe(name), until)
            # mosquitto reads this when it has written the session to its disk.
            or connection.wait_answered(connection.ask(), until)
        )
    finally:
        connection.close()
