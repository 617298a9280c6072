"""MQTT keeps the contract with mosquitto, and what is particular to it."""

from __future__ import annotations

from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract


class TestMqtt(ServerContract, QueueContract):
    SERVER = "mqtt"
    CALLS = 40
