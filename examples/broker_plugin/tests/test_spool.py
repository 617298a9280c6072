"""The spool keeps the contract of a queue. Run from a checkout of iotcloud, with this package installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.connect import schemes
from tests.brokers.queue_contract import QueueContract


def test_it_is_found_by_its_entry_point() -> None:
    assert "spool" in schemes()


class TestSpool(QueueContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"spool:{tmp_path}/spool?max_message_bytes=1MB"

    @pytest.fixture
    def unavailable_url(self, tmp_path: Path) -> str:
        (tmp_path / "file").write_text("not a directory")
        return f"spool:{tmp_path}/file/spool"
