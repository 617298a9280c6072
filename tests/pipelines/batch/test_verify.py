"""`verify`, `retention` and `export`: every kind of damage is found and named; what is gone is accounted for."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from brokers import Message
from pipelines.run import main
from schemas.control import Dropped, EpochStart, encode_control
from tests.pipelines.batch.recorded import day, events, record, stored
from tests.pipelines.fleet import TOPICS

TOPIC = TOPICS[0]


def verify(root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["verify", "--archive", str(root), "--json", *more])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    record(tmp_path, day(end=180))
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    return tmp_path


def part(root: Path, hour: int = 1) -> Path:
    return next(root.glob(f"events/schema=Reading/dt=*/hour={hour:02d}/part-*.avro"))


def test_a_sound_archive(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = verify(archive, capsys, "--against-journal")
    assert status == 0
    assert (found["sound"], found["hours"], found["events"]) == (True, 3, 180)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def without_manifest(path: Path) -> None:
    (path.parent / "_manifest.json").unlink()


def without_success(path: Path) -> None:
    (path.parent / "_SUCCESS").unlink()


def torn_manifest(path: Path) -> None:
    manifest = path.parent / "_manifest.json"
    manifest.write_text(manifest.read_text()[:-50])


def wrong_identities(path: Path) -> None:
    manifest = path.parent / "_manifest.json"
    document = json.loads(manifest.read_text())
    document["identities"][0]["intervals"][0][0] += 1
    manifest.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (flip, "part-"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "part-"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: (path.parent / "part-x.avro").write_bytes(path.read_bytes()), "does not name it"),
        (without_manifest, "_manifest.json"),
        (without_success, "_SUCCESS"),
        (torn_manifest, "_manifest.json"),
        (wrong_identities, "identities"),
    ],
)
def test_damage_is_named(archive: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], named: str) -> None:
    damage(part(archive))
    status, found = verify(archive, capsys)
    assert status == 1
    assert any(named in problem and "hour=01" in problem for problem in found["damaged"]), found["damaged"]


@pytest.mark.slow
def test_what_is_missing_is_told_exactly_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages = [
        Message(TOPIC, "g", encode_control(EpochStart("g", 1, None, None))),
        events(TOPIC, "g", range(2, 50)),
        Message(TOPIC, "g", encode_control(Dropped("g", 1, 50, 59, "outbox-full"))),
        events(TOPIC, "g", range(70, 100)),
        Message(TOPIC, "g", encode_control(EpochStart("g", 2, 1, 104))),
        events(TOPIC, "g", range(10), epoch=2),
    ]
    record(tmp_path, messages)
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    status, found = verify(tmp_path, capsys, "--against-journal")
    assert status == 1
    assert [(gap["epoch"], gap["first"], gap["last"]) for gap in found["missing"]] == [(1, 0, 1), (1, 60, 69), (1, 100, 104)]
    assert [(gap["first"], gap["last"], gap["why"]) for gap in found["explained"]] == [(50, 59, "outbox-full")]
    assert verify(tmp_path, capsys, "--accept-missing")[0] == 0
    # The late ones close the gaps.
    record(tmp_path, [events(TOPIC, "g", numbers) for numbers in (range(2), range(60, 70), range(100, 105))])
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    assert verify(tmp_path, capsys)[0] == 0


def test_an_event_in_two_hours_is_a_duplicate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, [*day(end=120), events(TOPIC, "gateway-0", range(10, 13), every=600.0)])
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    status, found = verify(tmp_path, capsys)
    assert status == 1
    assert sum(twice["last"] - twice["first"] + 1 for twice in found["duplicates"]) == 3


def test_an_hour_that_someone_took_away_is_missed(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = part(archive)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    status, found = verify(archive, capsys, "--against-journal")
    assert status == 1
    assert [(gap["first"], gap["last"]) for gap in found["missing"]] == [(60, 119)]
    assert [(gap["first"], gap["last"]) for gap in found["lost"]] == [(60, 119)]


def test_retention_takes_away_old_hours_for_good_and_accounts_for_them(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["retention", "--archive", str(archive), "--before", "2010-05-09T02:30"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "hour=01: 60 events" in capsys.readouterr().out
    assert len(stored(archive)) == 180
    assert main(arguments) == 0
    assert {row["seq"] for row in stored(archive)} == set(range(120, 180))
    assert verify(archive, capsys)[0] == 0
    # Neither late events nor a journal that is read again bring them back.
    record(archive, [events(TOPIC, "late", range(100, 130))])
    assert main(["compact", "--archive", str(archive)]) == 0
    assert {(row["gateway"], row["seq"]) for row in stored(archive)} == {
        *(("gateway-0", number) for number in range(120, 180)),
        *(("late", number) for number in range(120, 130)),
    }
    assert verify(archive, capsys, "--against-journal")[0] == 0


def test_retention_by_age_and_what_it_needs(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retention", "--archive", str(archive)]) == 2
    assert main(["retention", "--archive", str(archive), "--keep", "soon"]) == 2
    assert main(["retention", "--archive", str(archive), "--keep", "36500d"]) == 0
    assert len(stored(archive)) == 180
    assert main(["retention", "--archive", str(archive), "--keep", "1d"]) == 0
    assert stored(archive) == []


def test_export(archive: Path, tmp_path: Path) -> None:
    arguments = ["export", "--archive", str(archive), "--between", "2010-05-09T00:30", "2010-05-09T01:30"]
    assert main([*arguments, "--output", str(tmp_path / "csv"), "--select", "device=*-2"]) == 0
    rows = [row for path in sorted((tmp_path / "csv").iterdir()) for row in csv.DictReader(path.open())]
    assert sorted(int(row["seq"]) for row in rows) == [number for number in range(30, 90) if number % 3 == 2]
    assert rows[0]["topic"] == TOPIC
    assert rows[0]["event_time"].endswith("Z")
    assert main([*arguments, "--output", str(tmp_path / "parquet"), "--format", "parquet"]) == 0
    table = pl.read_parquet(tmp_path / "parquet/*.parquet")
    assert sorted(table.get_column("seq").to_list()) == list(range(30, 90))
    assert table.schema["event_time"] == pl.Datetime("us", "UTC")


def test_wrong_words_are_explained(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in [
        (["verify", "--archive", str(archive), "--between", "noon", "night"], "no time"),
        (["export", "--archive", str(archive), "--output", "x", "--select", "color=red"], "KEY=PATTERN"),
        (["compact", "--archive", str(archive), "--fromat", "avro"], "did you mean --format"),
        (["compact", "--archive", "ftp://x"], "cannot be kept there"),
        (["reprocess", "--archive", str(archive)], "nowhere to write"),
    ]:
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
