"""A watcher that falls behind what is kept is told so, also in the middle of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from master.hub import Hub
from master.rest.watch import _events
from master.selection import Selection
from master.store import changes
from master.store.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'master.sqlite'}")
    with database.write() as connection:
        for number in range(1, 1_201):
            changes.append(connection, "gateway", "changed", number, time=number, gateway="g")
    yield database
    database.close()


def test_changes_given_up_before_a_slow_watcher_was_told_are_a_reset(database: Database) -> None:
    async def watched() -> list[tuple[str, int]]:
        services: Any = SimpleNamespace(database=database, hub=Hub(asyncio.get_running_loop()))
        events = _events(services, Selection(), [], 0)
        # The first part of the changes is under way when the oldest are given up.
        told = [_read(await anext(events)) for _ in range(3)]
        with database.write() as connection:
            changes.trim(connection, keep=100)
        async for event in events:
            told.append(_read(event))
            if told[-1][0] == "reset":
                break
        with database.write() as connection:
            changes.append(connection, "gateway", "changed", 0, time=0, gateway="g")
        told.append(_read(await anext(events)))
        await events.aclose()
        return told

    told = asyncio.run(watched())
    assert told == [("ready", 0), *(("change", number) for number in range(1, 501)), ("reset", 1_200), ("change", 1_201)]


def _read(event: bytes) -> tuple[str, int]:
    name, number = event.split(b"\n")[:2]
    return name.removeprefix(b"event: ").decode(), int(number.removeprefix(b"id: "))
