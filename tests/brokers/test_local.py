"""The embedded log keeps the contract."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from brokers import Message, connect
from gateway_agent.config import load_config
from tests.brokers.kit import ROOT
from tests.brokers.log_contract import LogContract


def test_the_sample_is_a_configuration() -> None:
    (broker,) = load_config(ROOT / "brokers" / "local" / "sample.toml").brokers().values()
    assert broker.url == "local:log?retention_bytes=10GB&retention_age=7d"


class TestLocal(LogContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"local:{tmp_path}/log?max_message_bytes=1MB"

    @pytest.fixture
    def unavailable_url(self, tmp_path: Path) -> str:
        (tmp_path / "file").write_text("not a directory")
        return f"local:{tmp_path}/file/log"

    @pytest.fixture
    def expire(self, url: str) -> Callable[[str], None]:
        def expire(topic: str) -> None:
            with closing(connect(f"{url}&retention_bytes=1").publisher()) as publisher:
                publisher.publish([Message(topic, "p", b"the newest")])

        return expire
