"""The contract's assertions explain themselves like those of test files."""

import pytest

for name in ("contract", "log_contract", "queue_contract", "server_contract", "patience", "kit"):
    pytest.register_assert_rewrite(f"tests.brokers.{name}")
