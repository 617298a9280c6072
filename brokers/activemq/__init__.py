"""ActiveMQ (Classic) over STOMP: persistent queues, one for each group and topic, fed by virtual topics."""

from __future__ import annotations

from brokers.contract import Broker
from brokers.url import BrokerUrl

SCHEMES: tuple[str, ...] = ("stomp", "stomp+ssl")


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option, or when stomp.py is not installed."""
    import os

    from brokers.connect import client_library

    # Importing stomp.py looks this machine's own names up, which takes seconds where the name server is away.
    os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
    client_library("stomp", extra="activemq")
    from brokers.activemq.broker import ActiveMqBroker

    return ActiveMqBroker(url)
