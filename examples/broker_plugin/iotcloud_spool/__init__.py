"""A broker for IoTCloud whose messages are files of a directory: ``spool:DIR``."""

from __future__ import annotations

from brokers.contract import Broker
from brokers.url import BrokerUrl, directory_of
from iotcloud_spool.broker import SpoolBroker, SpoolOptions


def open_broker(url: BrokerUrl) -> Broker:
    """What the entry point names. Opens nothing. Raises `ConfigurationError` for a wrong option."""
    return SpoolBroker(directory_of(url), url.options_as(SpoolOptions), url=url.redacted)
