"""`compact`: what is in the journal, each event once, by event time, whatever the order in which it came."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from brokers import Message
from pipelines.run import main
from schemas.frame import encode_frame
from schemas.registry import event_schema
from storage.events.files import open_files
from tests.pipelines.batch.recorded import day, events, expected, parquet, record, same, stored, tree
from tests.pipelines.fleet import READING, TOPICS, fleet

ORDER = ("device", "channel", "event_time")


def compact(root: Path, *more: str) -> int:
    return main(["compact", "--archive", str(root), *more])


def test_every_event_of_the_journal_is_there_once_in_the_hour_of_its_time(tmp_path: Path) -> None:
    sent = fleet(1)
    record(tmp_path, sent.messages)
    assert compact(tmp_path) == 0
    rows = stored(tmp_path)
    assert same(rows, expected(sent.messages))
    assert len(rows) == len(sent.counted) + sent.future


def test_files_are_sorted_and_any_reader_of_avro_reads_them(tmp_path: Path) -> None:
    messages = day() + day(TOPICS[1], "gateway-1")
    record(tmp_path, messages)
    assert compact(tmp_path) == 0
    files = list(tmp_path.glob("events/schema=Reading/dt=2010-05-09/hour=*/part-*.avro"))
    assert len(files) == 24
    for path in files:
        rows = pl.read_avro(path)
        keys = [tuple(row[name] for name in ORDER) for row in rows.iter_rows(named=True)]
        assert all(a <= b for a, b in pairwise(keys))
        assert (path.parent / "_SUCCESS").exists()


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, day())
    assert compact(tmp_path) == 0
    before = tree(tmp_path)
    assert compact(tmp_path) == 0
    assert tree(tmp_path) == before
    assert "0 from the journal" in capsys.readouterr().out


@pytest.mark.slow
def test_without_its_progress_it_begins_again_and_changes_nothing(tmp_path: Path) -> None:
    record(tmp_path, day())
    assert compact(tmp_path) == 0
    before = tree(tmp_path)
    (tmp_path / "events/_progress.json").unlink()
    assert compact(tmp_path) == 0
    assert tree(tmp_path) == before


def test_late_events_rewrite_only_their_hours(tmp_path: Path) -> None:
    messages = day()
    late = [events(TOPICS[0], "late", range(200, 210)), events(TOPICS[0], "late", range(1200, 1203))]
    record(tmp_path, messages)
    assert compact(tmp_path) == 0
    before = tree(tmp_path)
    record(tmp_path, late + messages[:3])
    assert compact(tmp_path) == 0
    after = tree(tmp_path)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {Path(path).parent.name for path in changed} == {"hour=03", "hour=20"}
    assert same(stored(tmp_path), expected(messages + late))


@pytest.mark.slow
def test_in_many_runs_it_comes_to_the_same(tmp_path: Path) -> None:
    sent = fleet(2, seconds=200)
    for start in range(0, len(sent.messages), 80):
        record(tmp_path, sent.messages[start : start + 80])
        assert compact(tmp_path) == 0
    assert same(stored(tmp_path), expected(sent.messages))


@pytest.mark.slow
def test_files_have_about_the_size_that_was_asked_for(tmp_path: Path) -> None:
    messages = [
        events(TOPICS[0], f"g{number}", range(start, start + 500), every=0.01) for number in range(100) for start in (0, 500)
    ]
    record(tmp_path, messages)
    assert compact(tmp_path, "--target-size", "500kB") == 0
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("events/**/part-*.avro"))]
    assert len(sizes) > 2
    assert all(size < 900_000 for size in sizes)
    assert all(size > 400_000 for size in sizes[:-1])
    assert same(stored(tmp_path), expected(messages))


@pytest.mark.slow
def test_parquet_holds_the_same_and_is_merged_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sent = fleet(3, seconds=100)
    record(tmp_path, sent.messages[:100])
    assert compact(tmp_path, "--format", "parquet") == 0
    record(tmp_path, sent.messages[100:])
    assert compact(tmp_path) == 0
    assert same(parquet(tmp_path), expected(sent.messages))
    assert compact(tmp_path, "--format", "avro") == 2
    assert "kept as parquet" in capsys.readouterr().err


ODD = event_schema(
    {
        "type": "record",
        "name": "Odd",
        "fields": [
            *READING.record["fields"][:7],
            {"name": "topic", "type": ["null", "int"]},
            {"name": "flags", "type": {"type": "array", "items": "boolean"}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        ],
    }
)


def test_events_of_schemas_without_columns_keep_their_bytes(tmp_path: Path) -> None:
    from decimal import Decimal

    import fastavro

    time = datetime(2010, 5, 9, 3, tzinfo=UTC)
    sent = [
        {"gateway": "g", "epoch": 1, "seq": seq, "gateway_time": time, "device": f"d{seq % 2}", "channel": "c",
         "event_time": time, "topic": None if seq % 2 else seq, "flags": [True] * seq, "price": Decimal(f"{seq}.25")}
        for seq in range(5)
    ]  # fmt: skip
    schema = tmp_path / "odd.avsc"
    schema.write_text(ODD.text)
    record(tmp_path, [Message("t", "g", encode_frame(ODD, sent[:2]))])
    assert compact(tmp_path) == 0
    assert not list(tmp_path.glob("events/schema=Odd"))
    record(tmp_path, [Message("t", "g", encode_frame(ODD, sent[2:]))])
    # What was not understood before is read again once its schema is known.
    assert compact(tmp_path, "--schema", str(schema)) == 0
    (path,) = tmp_path.glob("events/schema=Odd/dt=2010-05-09/hour=03/part-*.avro")
    with path.open("rb") as file:
        found = sorted(fastavro.reader(file), key=lambda event: event["seq"])  # type: ignore[index, call-overload, arg-type, return-value]
    assert found == [{**event, "topic_": "t"} for event in sent]


def test_a_dry_run_says_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, day())
    assert compact(tmp_path, "--dry-run") == 0
    assert capsys.readouterr().out == f"{TOPICS[0]}/0: offsets 0 to 71\n"
    assert not (tmp_path / "events").exists()


def test_of_two_at_once_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, day())
    with open_files(f"files:{tmp_path}").alone():
        assert compact(tmp_path) == 1
    assert "another job" in capsys.readouterr().err
    assert compact(tmp_path) == 0


def test_a_damaged_journal_is_named_and_nothing_is_half_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, day())
    path = next(tmp_path.glob("journal/**/*.avro"))
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    assert compact(tmp_path) == 1
    assert path.name in capsys.readouterr().err
    path.write_bytes(data)
    assert compact(tmp_path) == 0
    assert same(stored(tmp_path), expected(day()))


@pytest.mark.slow
def test_it_runs_on_prism(tmp_path: Path) -> None:
    sent = fleet(4, seconds=100)
    record(tmp_path, sent.messages)
    assert compact(tmp_path, "--runner=PrismRunner") == 0
    assert same(stored(tmp_path), expected(sent.messages))
