"""What every sink must do. An implementation's test module inherits `SinkContract` and says how to open one and how to read it.

The guarantees are those of `storage.contract.Sink`.
"""

from __future__ import annotations

import random
import string
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.errors import ConfigurationError
from schemas.header import MAX_NAME_BYTES
from schemas.topics import MAX_LENGTH
from storage import Sink, open_sink
from storage.tables import TABLES
from tests.storage.rows import START, aggregates, gaps, latest, sessions


class SinkContract:
    """Rows are read back by `rows`, which owes nothing to the sink; times as µs since 1970, UTC."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        raise NotImplementedError

    def rows(self, url: str, table: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    @pytest.fixture
    def sink(self, url: str) -> Iterator[Sink]:
        sink = open_sink(url)
        yield sink
        sink.close()

    def test_rows_are_kept_to_the_microsecond_and_the_last_bit(self, url: str, sink: Sink) -> None:
        rows = aggregates(1, value=0.1 + 0.2).with_columns(pl.lit(START + 1).alias("window_start"))
        sink.write("aggregates", rows)
        assert self.rows(url, "aggregates") == TABLES["aggregates"].conform(rows).to_dicts()

    def test_writing_again_changes_nothing(self, url: str, sink: Sink) -> None:
        for _ in range(3):
            sink.write("aggregates", aggregates(50))
        assert len(self.rows(url, "aggregates")) == 50

    def test_a_corrected_row_takes_the_place_of_the_one_before(self, url: str, sink: Sink) -> None:
        sink.write("aggregates", aggregates(3))
        sink.write("aggregates", aggregates(1, first=1, value=9.0, pane="late"))
        found = {row["device"]: (row["mean"], row["pane"]) for row in self.rows(url, "aggregates")}
        assert found == {"mote-0": (1.5, "on_time"), "mote-1": (9.0, "late"), "mote-2": (1.5, "on_time")}

    def test_of_rows_of_one_key_in_one_write_the_last_counts(self, url: str, sink: Sink) -> None:
        sink.write("aggregates", pl.concat([aggregates(1, value=1.0), aggregates(1, value=2.0)]))
        assert [row["mean"] for row in self.rows(url, "aggregates")] == [2.0]

    def test_the_latest_value_is_replaced_by_a_newer_one_only(self, url: str, sink: Sink) -> None:
        sink.write("latest", latest("a", 10, 1.0, epoch=2, seq=5))
        for older in (latest("a", 9, 2.0, epoch=9), latest("a", 10, 3.0, epoch=1, seq=9), latest("a", 10, 4.0, epoch=2, seq=4)):
            sink.write("latest", older)
        assert [row["value"] for row in self.rows(url, "latest")] == [1.0]
        sink.write("latest", latest("a", 10, None, epoch=2, seq=6, text="on"))
        assert [(row["value"], row["text"]) for row in self.rows(url, "latest")] == [(None, "on")]

    def test_the_newest_wins_within_one_write_too(self, url: str, sink: Sink) -> None:
        sink.write("latest", pl.concat([latest("a", 3, 3.0), latest("a", 1, 1.0), latest("b", 2, 2.0)]))
        assert {row["device"]: row["value"] for row in self.rows(url, "latest")} == {"a": 3.0, "b": 2.0}

    def test_a_gap_that_splits_or_closes_leaves_each_seq_in_one_row(self, url: str, sink: Sink) -> None:
        sink.write("gaps", gaps((10, 20, "open"), (40, 41, "declared")))
        sink.write("gaps", gaps((10, 20, "closed"), (10, 12, "open"), (16, 20, "open")))
        sink.write("gaps", gaps((12, 12, "closed")))
        assert self.ranges(url) == [
            (10, 11, "open"),
            (12, 12, "closed"),
            (13, 15, "closed"),
            (16, 20, "open"),
            (40, 41, "declared"),
        ]
        assert all(row["count"] == row["last"] - row["first"] + 1 for row in self.rows(url, "gaps"))

    def test_gaps_told_again_come_to_the_same(self, url: str, sink: Sink) -> None:
        history = [gaps((10, 20, "open")), gaps((10, 20, "closed"), (10, 12, "open"), (16, 20, "open"))]
        for rows in history:
            sink.write("gaps", rows)
        before = self.ranges(url)
        for rows in history:
            sink.write("gaps", rows)
        assert self.ranges(url) == before

    def test_gaps_of_gateways_do_not_meet(self, url: str, sink: Sink) -> None:
        sink.write("gaps", pl.concat([gaps((1, 5, "open")), gaps((3, 9, "open"), gateway="h")]))
        assert self.ranges(url) == [(1, 5, "open"), (3, 9, "open")]

    def test_a_session_takes_the_place_of_all_that_it_overlaps(self, url: str, sink: Sink) -> None:
        sink.write("sessions", sessions((0, 10), (20, 30), (30, 40)))
        sink.write("sessions", pl.concat([sessions((5, 8), device="other"), sessions((5, 8), period=START - 1)]))
        sink.write("sessions", sessions((8, 30), count=2))
        assert self.spans(url) == [("d", 5, 8), ("d", 8, 30), ("d", 30, 40), ("other", 5, 8)]
        sink.write("sessions", sessions((8, 31), count=3))
        assert self.spans(url) == [("d", 5, 8), ("d", 8, 31), ("other", 5, 8)]

    def test_sessions_told_again_come_to_the_same(self, url: str, sink: Sink) -> None:
        history = [
            sessions((0, 10), (20, 30)),
            sessions((40, 50), (0, 30), count=2),
            sessions((0, 9), (0, 30), (45, 60), count=3),
        ]
        for rows in [*history, *history]:
            sink.write("sessions", rows)
        assert self.spans(url) == [("d", 0, 30), ("d", 45, 60)]
        assert {row["count"] for row in self.rows(url, "sessions")} == {3}

    def test_the_longest_names_there_may_be_are_keys(self, url: str, sink: Sink) -> None:
        chance = random.Random(1)  # what repeats itself some stores keep as less

        def name() -> str:
            return "".join(chance.choices(string.ascii_letters + string.digits, k=MAX_NAME_BYTES))

        names = {"device": name(), "channel": name()}
        written = {
            "aggregates": aggregates(1),
            "sessions": sessions((0, 10)),
            "latest": latest("d", 1, 1.0),
            "gaps": gaps((1, 5, "open"), gateway=name()).with_columns(pl.lit("t" * MAX_LENGTH).alias("topic")),
        }
        for table, rows in written.items():
            long = rows.with_columns(pl.lit(text).alias(column) for column, text in names.items() if column in rows.columns)
            sink.write(table, long)
            assert self.rows(url, table) == TABLES[table].conform(long).to_dicts()

    def spans(self, url: str) -> list[tuple[str, int, int]]:
        rows = self.rows(url, "sessions")
        second = 1_000_000
        return sorted(
            (row["device"], (row["window_start"] - START) // second, (row["window_end"] - START) // second) for row in rows
        )

    def ranges(self, url: str) -> list[tuple[int, int, str]]:
        return sorted((row["first"], row["last"], row["state"]) for row in self.rows(url, "gaps"))

    @pytest.mark.parametrize("table", TABLES)
    def test_every_table_takes_rows_and_an_empty_frame(self, url: str, sink: Sink, table: str) -> None:
        samples: dict[str, Any] = {"time": START, "text": "ü", "integer": 2**60, "real": -0.5, "bytes": b"\0\xff"}
        row = {column.name: None if column.nullable else samples[column.kind] for column in TABLES[table].columns}
        if table == "gaps":
            row |= {"first": 4, "last": 4, "count": 1}
        rows = pl.DataFrame([row], schema=TABLES[table].types)
        sink.write(table, rows.clear())
        sink.write(table, rows)
        assert self.rows(url, table) == [row]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (aggregates(1).drop("count"), "column 'count' is missing"),
            (aggregates(1).with_columns(pl.lit(1).alias("median")), "unknown column 'median'"),
            (aggregates(1).with_columns(pl.lit(None, pl.String).alias("device")), "'device' holds null"),
        ],
    )
    def test_rows_of_another_form_are_refused_whole(self, url: str, sink: Sink, rows: pl.DataFrame, message: str) -> None:
        sink.write("aggregates", aggregates(1, first=7))
        with pytest.raises(ConfigurationError, match=message):
            sink.write("aggregates", rows)
        assert [row["device"] for row in self.rows(url, "aggregates")] == ["mote-7"]

    def test_an_unknown_table_is_refused(self, sink: Sink) -> None:
        with pytest.raises(ConfigurationError, match="no table 'agregates'"):
            sink.write("agregates", aggregates(1))

    def test_checking_a_store_that_can_be_written_says_nothing(self, sink: Sink) -> None:
        sink.check()
        sink.write("aggregates", aggregates(1))
        sink.check()

    def test_several_writers_lose_nothing(self, url: str, sink: Sink) -> None:
        sink.write("aggregates", aggregates(1))

        def write(worker: int) -> None:
            own = open_sink(url)
            for number in range(10):
                own.write("aggregates", aggregates(20, first=1_000 * worker + 20 * number))
                own.write("gaps", gaps((number, number, "open"), gateway=f"g{worker}"))
            own.close()

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(self.rows(url, "aggregates")) == 1 + 4 * 200
        assert len(self.rows(url, "gaps")) == 4 * 10
