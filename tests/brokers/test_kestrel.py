"""Kestrel keeps the contract, against the tests' own server (`tests.servers.kestrel`)."""

from __future__ import annotations

from tests.brokers.queue_contract import QueueContract
from tests.brokers.server_contract import ServerContract


class TestKestrel(ServerContract, QueueContract):
    SERVER = "kestrel"
