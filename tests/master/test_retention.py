"""Commands that have ended are given up when they are old; those that have not are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from master import views
from master.clock import Clock
from master.config import Config
from master.selection import Selection
from master.services import trim_commands
from master.store import audit, commands
from master.store.database import Database
from schemas.command import Command, CommandState, Step
from schemas.errors import ConfigurationError
from settings import Seconds

DAY = 86_400_000_000
NOW = 20_000 * DAY


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'master.sqlite'}")
    yield database
    database.close()


def _issue(database: Database, id: str, *, at: int) -> None:  # noqa: A002
    with database.write() as connection:
        commands.issue(connection, Command(id, "g", "d", "stop", "{}", "test", at, at + DAY))


def _record(database: Database, id: str, step: Step, *, at: int, said: int = 0) -> None:  # noqa: A002
    with database.write() as connection:
        commands.record(connection, [CommandState(id, "g", "d", step, said, "")], time=at)


def _known(database: Database) -> list[str]:
    with database.read() as connection:
        return [one.id for one in commands.commands(connection, Selection()).items]


def _trim(database: Database, *, days: float = 30, now: int = NOW) -> int:
    return trim_commands(database, Clock(wall=lambda: now), days * 86_400)


def test_a_command_goes_with_its_steps_when_its_last_one_is_old(database: Database) -> None:
    for id, ended in (("old", NOW - 31 * DAY), ("young", NOW - 29 * DAY)):  # noqa: A001
        _issue(database, id, at=NOW - 40 * DAY)
        _record(database, id, "started", at=NOW - 35 * DAY)
        _record(database, id, "done", at=ended)
    assert _trim(database) == 1
    assert _known(database) == ["young"]
    with database.read() as connection:
        assert commands.states(connection, "old", after=0) == []
        assert [one.state for one in commands.states(connection, "young", after=0)] == ["issued", "started", "done"]
        assert [(one.action, one.detail) for one in audit.entries(connection, after=0, limit=9)] == [("trim", "1")]
    assert _trim(database) == 0
    assert _trim(database, now=NOW + 2 * DAY) == 1


@pytest.mark.parametrize("step", get_args(Step))
def test_one_that_has_not_ended_is_kept_whatever_its_gateway_says_the_time_is(database: Database, step: Step) -> None:
    _record(database, "foreign", step, at=NOW - 31 * DAY, said=NOW + 31 * DAY)
    _issue(database, "waiting", at=NOW - 31 * DAY)
    _trim(database)
    assert _known(database) == (["waiting"] if step in views.FINAL else ["foreign", "waiting"])


def test_one_recorded_while_the_clock_was_ahead_keeps_none_of_the_others(database: Database) -> None:
    _record(database, "ahead", "done", at=NOW + 1_000 * DAY)
    _record(database, "old", "done", at=NOW - 31 * DAY)
    _record(database, "young", "done", at=NOW - DAY)
    assert _trim(database) == 2
    assert _known(database) == ["young"]


def test_many_go_some_at_a_time(database: Database) -> None:
    with database.write() as connection:
        states = [CommandState(str(number), "g", "d", "done", 1, "") for number in range(501)]
        commands.record(connection, states, time=NOW - 31 * DAY)
    assert [_trim(database), _trim(database), _trim(database)] == [500, 1, 0]


def test_less_than_the_longest_deadline_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="keep_commands"):
        _ = Config(data="x", keep_commands=Seconds(3_600)).commands_kept
