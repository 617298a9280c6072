"""The contracts' assertions explain themselves like those of test files."""

import pytest

pytest.register_assert_rewrite("tests.storage.contract", "tests.storage.journal_contract", "tests.storage.server_contract")
