"""The embedded broker: a partitioned append log in SQLite files, shared by the processes of one machine."""

from __future__ import annotations

from brokers.contract import Broker
from brokers.url import BrokerUrl, directory_of

SCHEMES: tuple[str, ...] = ("local",)


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option."""
    from brokers.local.broker import LocalBroker, LocalOptions

    return LocalBroker(directory_of(url), url.options_as(LocalOptions), url=url.redacted)
