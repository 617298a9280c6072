"""Tables in SQLite: the contract, how times stand in them, and what happens when it goes wrong."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from storage import StoreRefused, StoreUnavailable, open_sink
from storage.connect import schemes
from storage.ranges import Row, overlay
from storage.sql import times
from storage.sql.schema import metadata
from storage.tables import TABLES
from tests.storage.contract import SinkContract
from tests.storage.rows import START, aggregates, latest, select

ROOT = Path(__file__).parent.parent.parent
YEAR_1, YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999


class TestSqlite(SinkContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:{tmp_path}/deep/down/results.sqlite"

    def rows(self, url: str, table: str) -> list[dict[str, Any]]:
        spec = TABLES[table]
        found = select(Path(url.removeprefix("sqlite:")), f"SELECT {', '.join(spec.names)} FROM {table}")
        kinds = [column.kind for column in spec.columns]
        return [
            {
                name: times.micros(value) if kind == "time" and value is not None else value
                for name, kind, value in zip(spec.names, kinds, row, strict=True)
            }
            for row in found
        ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def test_times_are_iso_text_that_sqlite_and_people_read(path: Path) -> None:
    sink = open_sink(f"sqlite:{path}")
    sink.write("aggregates", aggregates(1))
    sink.write("latest", latest("a", 1, 2.0))
    sink.close()
    assert select(path, "SELECT window_start, datetime(window_end) FROM aggregates") == [
        ("2010-05-09T00:00:00.000000Z", "2010-05-09 00:05:00")
    ]
    assert select(path, "SELECT event_time FROM latest WHERE event_time > '2010-05-09'") == [("2010-05-09T00:00:00.000001Z",)]


def test_views_give_times_as_microseconds(path: Path) -> None:
    sink = open_sink(f"sqlite:{path}")
    sink.write("aggregates", aggregates(1).with_columns(pl.lit(-1).alias("window_start")))
    sink.write("latest", latest("a", 123_456, 2.0))
    sink.close()
    assert select(path, "SELECT window_start, window_end FROM aggregates_micros") == [(-1, START + 300_000_000)]
    assert select(path, "SELECT event_time FROM latest_micros") == [(START + 123_456,)]


@given(st.lists(st.integers(YEAR_1, YEAR_9999), min_size=1, max_size=30))
def test_the_text_of_times_keeps_value_and_order(values: list[int]) -> None:
    texts = times.texts(pl.Series("t", values * 3)).to_list()[: len(values)]
    assert [times.micros(text) for text in texts] == values
    assert [times.micros(text) for text in sorted(texts)] == sorted(values)


def test_the_migrated_database_is_what_the_tables_say(path: Path) -> None:
    sink = open_sink(f"sqlite:{path}")
    sink.write("aggregates", aggregates(1))
    sink.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "iotcloud_version", "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_number_that_is_none_is_kept_as_null(path: Path) -> None:
    sink = open_sink(f"sqlite:{path}")
    sink.write("aggregates", aggregates(1, value=float("nan")))
    sink.close()
    assert select(path, "SELECT mean FROM aggregates") == [(None,)]


@pytest.mark.parametrize("url", ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite:r.db?mode=ro", "sqlite://host/r.db"])
def test_urls_that_name_no_file_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite"):
        open_sink(url)


def test_an_unknown_scheme_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'sqlite'"):
        open_sink("sqlit:results")
    assert {"sqlite", "files"} <= schemes()


def test_a_store_of_frames_alone_says_so() -> None:
    with pytest.raises(ConfigurationError, match="does not keep tables"):
        open_sink("files:archive")


def test_a_locked_database_is_waited_for(path: Path) -> None:
    sink = open_sink(f"sqlite:{path}")
    sink.write("aggregates", aggregates(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = threading.Event()

        def write() -> None:
            sink.write("aggregates", aggregates(1, first=1))
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert not done.wait(0.3), "written while another had the lock"
        other.execute("COMMIT")
        thread.join()
    sink.close()
    assert select(path, "SELECT count(*) FROM aggregates") == [(2,)]


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"something else entirely " * 100)
    sink = open_sink(f"sqlite:{path}")
    with pytest.raises(StoreRefused, match="not a database"):
        sink.write("aggregates", aggregates(1))
    with pytest.raises(StoreRefused, match="not a database"):
        sink.check()


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    sink = open_sink(f"sqlite:{path}")
    sink.write("aggregates", aggregates(1))
    sink.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE iotcloud_version SET version_num = '9999'")
    with pytest.raises(StoreRefused, match="newer version"):
        open_sink(f"sqlite:{path}").write("aggregates", aggregates(1))


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        open_sink(f"sqlite:{tmp_path}/file/results.sqlite").check()


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


FULL = """
import resource, sys
from storage import StoreFull, open_sink
from tests.storage.rows import aggregates
sink = open_sink(sys.argv[1])
sink.write("aggregates", aggregates(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    for batch in range(1, 100):
        sink.write("aggregates", aggregates(1_000, first=1_000 * batch))
        print("written", batch, flush=True)
except StoreFull as error:
    print("full:", error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write("aggregates", aggregates(1, first=999_999))
print("again", flush=True)
"""


def test_a_full_disk_is_a_clear_error_and_nothing_is_half_written(path: Path) -> None:
    """The limit on the size of files stands in for the disk; writing goes on when there is room again."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    process = child(FULL, f"sqlite:{path}")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    lines = out.splitlines()
    written = sum(line.startswith("written") for line in lines)
    assert any(line.startswith("full:") and "free space" in line for line in lines)
    assert lines[-1] == "again"
    assert select(path, "SELECT count(*) FROM aggregates") == [(10 + 1_000 * written + 1,)]


KILLED = """
import sys
from storage import open_sink
from tests.storage.rows import aggregates
sink = open_sink(sys.argv[1])
for batch in range(10_000):
    sink.write("aggregates", aggregates(500, first=500 * batch))
    print(batch, flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_whole_writes_and_all_it_had_told(path: Path) -> None:
    for round_ in range(5):
        process = child(KILLED, f"sqlite:{path}")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.07 * round_)
        process.kill()
        told = [int(line) for line in process.stdout.read().split()]
        process.communicate()
        batches = select(
            path, "SELECT CAST(substr(device, 6) AS INTEGER) / 500 AS batch, count(*) FROM aggregates GROUP BY batch"
        )
        assert all(count == 500 for _, count in batches)
        assert set(told) <= {batch for batch, _ in batches}


ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.sampled_from("abc")), max_size=12)


@given(ROWS)
def test_ranges_laid_over_each_other_are_a_map_from_seq_to_what_was_said_last(ranges: list[tuple[int, int, str]]) -> None:
    expected: dict[int, str] = {}
    standing: list[Row] = []
    for first, more, state in ranges:
        standing = overlay(standing, [{"first": first, "last": first + more, "count": 0, "state": state}])
        expected |= dict.fromkeys(range(first, first + more + 1), state)
    found = [(seq, row["state"]) for row in standing for seq in range(row["first"], row["last"] + 1)]
    assert found == sorted(expected.items())
    assert all(row["count"] == row["last"] - row["first"] + 1 for row in standing)
