"""`Files` on the local disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.events.files_contract import FilesContract


class TestLocalFiles(FilesContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"files:{tmp_path}/archive"
