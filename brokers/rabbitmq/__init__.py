"""RabbitMQ (AMQP 0-9-1): durable queues, one for every group and topic."""

from __future__ import annotations

from brokers.connect import client_library
from brokers.contract import Broker
from brokers.url import BrokerUrl

SCHEMES: tuple[str, ...] = ("amqp", "amqps")


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option, and when pika is not installed."""
    client_library("pika", extra="rabbitmq")
    from brokers.rabbitmq.broker import RabbitBroker
    from brokers.rabbitmq.options import RabbitOptions

    return RabbitBroker(url, url.options_as(RabbitOptions))
