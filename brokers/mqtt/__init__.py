"""MQTT version 5 at quality of service 1, by paho-mqtt: a queue with a persistent session per group and topic."""

from __future__ import annotations

from brokers.connect import client_library
from brokers.contract import Broker
from brokers.url import BrokerUrl

SCHEMES: tuple[str, ...] = ("mqtt", "mqtts")


def open_broker(url: BrokerUrl) -> Broker:
    """Raises `ConfigurationError` for a wrong option, and when the client library is not installed."""
    client_library("paho.mqtt.client", extra="mqtt")
    from brokers.mqtt.broker import MqttBroker

    return MqttBroker(url)
