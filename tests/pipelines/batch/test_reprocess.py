"""`reprocess` comes to the rows of the real-time job, from events as from the journal, and replaces rows that are wrong."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipelines.run import main
from tests.pipelines.batch.recorded import day, events, record
from tests.pipelines.fleet import TOPICS, difference, rows_of

PIPELINE = """
[windows.short]
size = "10s"
allowed_lateness = "1d"

[windows.long]
kind = "sliding"
size = "30s"
every = "10s"
allowed_lateness = "1d"
"""
RULE = """
[windows.hour]
size = "1h"

[rules.hot]
on = "windows"
window = "hour"
when = "max >= 500"
alert = true
command = { gateway = "gateway-0", device = "fan-{device}", name = "on" }

[rules.event]
on = "events"
when = "value >= 1000"
alert = true
"""


def reprocess(root: Path, results: Path, *more: str, pipeline: str = PIPELINE) -> int:
    file = root / "pipeline.toml"
    file.write_text(pipeline)
    return main(["reprocess", "--archive", str(root), "--pipeline", str(file), "--sink", f"sqlite:{results}", *more])


def table(path: Path, text: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return sorted(database.execute(text).fetchall())


def archive(root: Path) -> None:
    record(root, [*day(), *day(TOPICS[1], "gateway-1")])
    assert main(["compact", "--archive", str(root)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["events", "journal"])
def test_it_replaces_the_windows_between_two_times_and_no_other(tmp_path: Path, origin: str) -> None:
    archive(tmp_path)
    results = tmp_path / "results.sqlite"
    pipeline = '[windows.hour]\nsize = "1h"\n'
    assert reprocess(tmp_path, results, pipeline=pipeline) == 0
    before, _ = rows_of(results)
    with closing(sqlite3.connect(results)) as database, database:
        database.execute("UPDATE aggregates SET count = 0")
    more = ["--from", origin, "--between", "2010-05-09T02:30", "2010-05-09T05:00", "--select", f"topic={TOPICS[0]},device=*-1"]
    assert reprocess(tmp_path, results, *more, pipeline=pipeline) == 0
    after, _ = rows_of(results)
    right = {key for key, row in after.items() if row == before[key]}
    assert after.keys() == before.keys()
    hours = sorted({(start // 3_600_000_000 % 24, device, channel) for start, _, device, channel in right})
    assert hours == [(3, "gateway-0-1", "temperature"), (4, "gateway-0-1", "temperature")]


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["events", "journal"])
def test_it_replaces_the_sessions_of_whole_periods_and_no_other(tmp_path: Path, origin: str) -> None:
    archive(tmp_path)
    results = tmp_path / "results.sqlite"
    pipeline = '[windows.visits]\nkind = "session"\ngap = "1h"\nlongest = "2h"\n'
    rows = "SELECT period_start, device, channel, window_start, window_end, sum, count FROM sessions"
    assert reprocess(tmp_path, results, pipeline=pipeline) == 0
    before = table(results, rows)
    with closing(sqlite3.connect(results)) as database, database:
        database.execute("UPDATE sessions SET count = 0")
    more = ["--from", origin, "--between", "2010-05-09T01:30", "2010-05-09T05:30"]
    assert reprocess(tmp_path, results, *more, pipeline=pipeline) == 0
    after = table(results, rows)
    assert [row[:-1] for row in after] == [row[:-1] for row in before]
    assert {row[0] for row in after if row in before} == {"2010-05-09T02:00:00.000000Z"}


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["events", "journal"])
def test_rules_say_what_they_would_have_done_and_do_nothing(
    tmp_path: Path, origin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive(tmp_path)
    fired = tmp_path / "fired.jsonl"
    assert reprocess(tmp_path, tmp_path / "results.sqlite", "--from", origin, "--fired", str(fired), pipeline=RULE) == 0
    found = [json.loads(line) for line in fired.read_text().splitlines()]
    hot = [(one["device"], one["change"]) for one in found if one["rule"] == "hot"]
    assert sorted(hot) == sorted((f"gateway-{number}-{device}", "raised") for number in (0, 1) for device in (0, 1, 2))
    commands = [one["command"] for one in found if one["command"]]
    assert {command["device"] for command in commands} == {f"fan-gateway-{n}-{d}" for n in (0, 1) for d in (0, 1, 2)}
    assert sum(one["rule"] == "event" for one in found) == 6
    out = capsys.readouterr().out
    assert "hot: raised 6 times, nothing was sent" in out
    assert table(tmp_path / "results.sqlite", "SELECT id FROM commands") == []
    assert table(tmp_path / "results.sqlite", "SELECT id FROM alerts") == []


@pytest.mark.slow
def test_events_beyond_the_lateness_are_counted(tmp_path: Path) -> None:
    record(tmp_path, [*day(), events(TOPICS[0], "very-late", range(3))])
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    results = tmp_path / "results.sqlite"
    assert (
        reprocess(tmp_path, results, "--from", "journal", pipeline='[windows.hour]\nsize = "1h"\nallowed_lateness = "1h"\n') == 0
    )
    rows, _ = rows_of(results)
    assert sum(row[0] for key, row in rows.items() if key[2].startswith("very-late")) == 3


def test_a_dry_run_reads_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(tmp_path)
    assert reprocess(tmp_path, tmp_path / "results.sqlite", "--between", "2010-05-09", "2010-05-09T02:00", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "hour=00" in out
    assert "hour=01" in out
    assert "hour=02" not in out


@pytest.mark.slow
def test_it_runs_on_prism(tmp_path: Path) -> None:
    archive(tmp_path)
    results = [tmp_path / "direct.sqlite", tmp_path / "prism.sqlite"]
    # Windows of minutes: each is a key, and a key costs Prism milliseconds.
    pipeline = PIPELINE.replace('0s"', '0m"')
    assert reprocess(tmp_path, results[0], pipeline=pipeline) == 0
    assert reprocess(tmp_path, results[1], "--runner=PrismRunner", pipeline=pipeline) == 0
    assert difference(*(rows_of(path)[0] for path in results)) == []
