"""Kestrel, a queue that speaks an extended memcache protocol. Needs no client library."""

from __future__ import annotations

from brokers.contract import Broker
from brokers.url import BrokerUrl

SCHEMES: tuple[str, ...] = ("kestrel",)


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option, a password, or no host."""
    from brokers.kestrel.broker import KestrelBroker

    return KestrelBroker(url)
