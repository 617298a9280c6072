"""Other programs read ``events/``, with the very code that docs/storage.md shows, and find what plain Python finds.

Beside the data lie manifests, locks, and what a killed job has left: none of it may disturb them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from pipelines.run import main
from storage.events.files import open_files
from tests.pipelines.batch.recorded import day, expected, record
from tests.pipelines.fleet import fleet
from tests.storage import readers
from tests.storage.page import shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Means = dict[tuple[int, str], tuple[int, float]]
_FORMATS: Final = {"archive": "avro", "parquet": "parquet"}
_PRINT: Final = "\nimport json\nprint(json.dumps({rows}))\n"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Means]:
    """A folder with an archive of Avro and one of Parquet; by hour and device, how many events 9 May 2010 had, and their mean."""
    folder = tmp_path_factory.mktemp("stored")
    messages = [*fleet(5, seconds=120).messages, *day(gateway="gateway-9")]
    for name, form in _FORMATS.items():
        record(folder / name, messages)
        assert main(["compact", "--archive", str(folder / name), "--format", form]) == 0
        files = open_files(f"files:{folder / name}")
        left = folder / name / files.stage() / "events/schema=Reading/dt=2010-05-09/hour=00"
        left.mkdir(parents=True)
        (left / f"part-00000000-0000000000000000-00000.{form}").write_bytes(b"half of a file")
    values: dict[tuple[int, str], list[float]] = defaultdict(list)
    midnight = 1_273_363_200_000_000
    for event in expected(messages).values():
        if midnight <= event["event_time"] < midnight + 86_400_000_000:
            values[(event["event_time"] - midnight) // 3_600_000_000, event["device"]].append(event["value"])
    return folder, {key: (len(found), math.fsum(found) / len(found)) for key, found in values.items()}


def same(found: Iterable[Any], wanted: Means) -> bool:
    """Sums of other programs are rounded in another order."""
    rows = {(int(hour), device): (count, mean) for hour, device, count, mean in found}
    assert rows.keys() == wanted.keys()
    return all(rows[key][0] == count and math.isclose(rows[key][1], mean, rel_tol=1e-12) for key, (count, mean) in wanted.items())


def test_fastavro(stored: tuple[Path, Means]) -> None:
    folder, wanted = stored
    (block,) = shown("python", "fastavro")
    assert same(readers.run(block + _PRINT.format(rows="found"), folder), wanted)


@pytest.mark.parametrize("what", ["polars", "polars-parquet"])
def test_polars(stored: tuple[Path, Means], what: str) -> None:
    folder, wanted = stored
    (block,) = shown("python", what)
    assert same(readers.run(block + _PRINT.format(rows="found.rows()"), folder), wanted)


@pytest.mark.parametrize("number", [0, 1], ids=["avro", "parquet"])
def test_duckdb(stored: tuple[Path, Means], number: int) -> None:
    folder, wanted = stored
    assert same(readers.duckdb(shown("sql", "duckdb")[number], folder), wanted)


def test_spark_and_the_hive_in_it(stored: tuple[Path, Means]) -> None:
    """Avro, Parquet, and an external table of Hive's, by its metastore and its Avro SerDe: in one Spark, for it starts slowly."""
    folder, wanted = stored
    (table,) = shown("sql", "hive")
    table = table.replace("LOCATION 'archive", f"LOCATION '{folder}/archive")
    python = shown("python", "spark")
    answers = readers.spark(folder, python=python, hive=[table])
    assert len(answers) == 3
    assert [same(found, wanted) for found in answers] == [True, True, True]


def test_each_hour_says_what_is_in_it(stored: tuple[Path, Means]) -> None:
    folder, wanted = stored
    for path in (folder / "archive/events/schema=Reading/dt=2010-05-09").glob("hour=*"):
        manifest = json.loads((path / "_manifest.json").read_text())
        hour = int(path.name.removeprefix("hour="))
        assert sum(part["rows"] for part in manifest["parts"]) == sum(
            count for (at, _), (count, _) in wanted.items() if at == hour
        )
        assert (path / "_SUCCESS").exists()
