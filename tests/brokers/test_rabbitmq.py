"""RabbitMQ keeps the contract, and what is particular to it."""

from __future__ import annotations

import pytest

from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract

pytestmark = pytest.mark.slow


class TestRabbitMQ(ServerContract, QueueContract):
    SERVER = "rabbitmq"
