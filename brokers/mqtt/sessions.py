"""Making the sessions of a group before it reads, and ending them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from brokers.backoff import Backoff
from brokers.mqtt.connection import Connection
from brokers.mqtt.failures import Failure
from brokers.mqtt.names import mqtt_topic, session_id
from brokers.mqtt.options import Target


def keep(target: Target, topics: Sequence[str], group: str, *, deadline: float) -> None:
    """Make the session of each topic, or see that it is there, before ``deadline`` (`time.monotonic`).

    There is no other way to see it than to connect as the group; a reader that is connected loses its connection by that,
    and makes another one by itself. Raises `BrokerUnavailable` and `BrokerRefused`.
    """
    for topic in topics:
        _visit(target, topic, group, deadline=deadline, stay=True)


def forget(target: Target, topics: Sequence[str], group: str, *, deadline: float) -> None:
    """End the session of each topic, with what is in it. See `keep`."""
    for topic in topics:
        _visit(target, topic, group, deadline=deadline, stay=False)


def _visit(target: Target, topic: str, group: str, *, deadline: float, stay: bool) -> None:
    backoff = Backoff()
    while failure := _attempt(target, topic, group, deadline=deadline, stay=stay):
        left = deadline - time.monotonic()
        if failure.final or left <= 0:
            raise failure.error(target.shown, [topic])
        time.sleep(min(backoff.next(), left))


def _attempt(target: Target, topic: str, group: str, *, deadline: float, stay: bool) -> Failure | None:
    """Why it is not certain that the session is there to stay, or gone."""
    until = min(deadline, time.monotonic() + target.options.connect_timeout)
    name, session = mqtt_topic(topic), session_id(group, topic)
    # One that does not outlive its connection takes the place of the one there was.
    connection = Connection(target, session, session=target.options.session_expiry if stay else 0, changed=lambda: None)
    try:
        return (
            connection.wait_open(until)
            or (connection.wait_answered(connection.subscribe(name), until) if stay else None)
            or connection.wait_written(until)
        )
    finally:
        connection.close()
