"""Google Cloud Pub/Sub: a managed queue."""

from __future__ import annotations

import os

from brokers.connect import client_library
from brokers.contract import Broker
from brokers.url import BrokerUrl

SCHEMES: tuple[str, ...] = ("pubsub",)


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option, or when the client library is not installed."""
    client_library("google.pubsub_v1", extra="pubsub")
    from brokers.pubsub.broker import PubsubBroker
    from brokers.pubsub.options import target_of

    return PubsubBroker(target_of(url, os.environ))
