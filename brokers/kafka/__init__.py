"""Apache Kafka, a log on a cluster of servers."""

from __future__ import annotations

from brokers.connect import client_library
from brokers.contract import Broker
from brokers.url import BrokerUrl

SCHEMES: tuple[str, ...] = ("kafka", "kafkas", "kafka+ssl")


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option, or when the client library is missing."""
    for module in ("kafka.net.manager", "google_crc32c"):
        client_library(module, extra="kafka")
    from brokers.kafka.broker import KafkaBroker
    from brokers.kafka.options import KafkaOptions, connection_settings

    options = url.options_as(KafkaOptions)
    return KafkaBroker(connection_settings(url, options), options, url=url.redacted)
