"""The database: made and brought up to date by migrations, and never by accident opened with an older program."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from master.selection import Selection
from master.store import changes
from master.store.database import Database, StoreError, upsert
from master.store.tables import metadata, positions


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'master.sqlite'}"


def test_migrations_make_exactly_the_tables_the_program_uses(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_database_of_a_newer_program_is_refused(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StoreError, match="newer version"):
        Database(url)


def test_a_write_that_fails_leaves_nothing_and_wakes_nobody(url: str) -> None:
    database = Database(url)
    woken: list[bool] = []
    database.on_change(lambda: woken.append(True))

    def fail() -> None:
        with database.write() as connection:
            upsert(connection, positions, {"broker": "b", "topic": "t", "partition": 0, "next_offset": 5})
            changes.append(connection, "gateway", "added", None, time=1, gateway="g")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    with database.read() as connection:
        assert connection.execute(select(positions)).all() == []
        assert changes.bounds(connection) == (1, 0)
    assert woken == []
    with database.write() as connection:
        changes.append(connection, "gateway", "added", None, time=1, gateway="g")
    assert woken == [True]
    database.close()


def test_upsert_replaces_what_is_given_and_keeps_one_row(url: str) -> None:
    database = Database(url)
    for offset in (5, 6):
        with database.write() as connection:
            upsert(connection, positions, [{"broker": "b", "topic": "t", "partition": 0, "next_offset": offset}])
    with database.read() as connection:
        assert [row.next_offset for row in connection.execute(select(positions))] == [6]
    database.close()


def test_the_journal_is_bounded_and_its_numbers_never_come_again(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        for number in range(3_000):
            changes.append(connection, "gateway", "changed", number, time=number, gateway=f"g{number % 3}")
    with database.write() as connection:
        changes.trim(connection, keep=100)
    with database.read() as connection:
        assert changes.bounds(connection) == (2_901, 3_000)
        found, seen = changes.after(connection, 2_990, Selection(gateway=("g0",)), (), limit=100)
    assert [change.number for change in found] == [2_992, 2_995, 2_998]
    assert seen == 3_000, "what was not chosen has been passed over too"
    with database.write() as connection:
        changes.trim(connection, keep=0)
        connection.execute(text("DELETE FROM changes"))
        changes.append(connection, "gateway", "changed", 0, time=0, gateway="g")
        assert changes.bounds(connection) == (3_001, 3_001)
    database.close()
