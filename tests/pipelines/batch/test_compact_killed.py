"""`compact` killed before each change it makes to files, and stopped by signals; readers meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipelines.run import main
from storage.events.files import open_files
from storage.events.hours import events_of
from storage.events.layout import hours
from storage.events.local import LocalFiles
from tests.pipelines.batch.killer import digest
from tests.pipelines.batch.recorded import day, events, expected, record, same, stored
from tests.pipelines.fleet import TOPICS
from tests.pipelines.system.job import ROOT

pytestmark = pytest.mark.slow
LATE = [events(TOPICS[0], "late", range(5, 8)), events(TOPICS[0], "late", range(100, 120)), events(TOPICS[1], "late", range(5))]


def base(root: Path) -> None:
    """An archive of some hours, and a journal that has more of them, and of others."""
    record(root, day(end=120))
    assert main(["compact", "--archive", str(root)]) == 0
    record(root, [*day(start=120, end=200), *LATE, *day(end=60)])


def test_killed_before_any_change_it_comes_to_the_same_when_run_again(tmp_path: Path) -> None:
    base(tmp_path / "base")
    wanted = expected([*day(end=200), *LATE])
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.batch.killer", str(tmp_path / "base"), str(tmp_path), "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    moments = [line.split() for line in done.stdout.splitlines() if line.startswith("moment")]
    assert len(moments) >= 10
    assert [moment[2] for moment in moments] == [str(int(signal.SIGKILL))] * (len(moments) - 1) + ["0"]
    assert same(stored(tmp_path / "copy"), wanted)
    assert {moment[5] for moment in moments} == {digest(tmp_path / "copy")}
    assert {moment[4] for moment in moments} == {"0"}
    # In between no event was ever there twice, or gone that had been there.
    counts = [int(moment[3].partition("-")[0]) for moment in moments]
    assert counts[0] == 120
    assert set(counts) <= set(range(120, len(wanted) + 1))
    assert not (tmp_path / "copy/events/.staging").exists()


def test_a_reader_finds_an_hour_as_it_was_or_as_it_is(tmp_path: Path) -> None:
    record(tmp_path, day(end=60))
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    files = open_files(f"files:{tmp_path}")
    (hour,) = hours(files)
    seen: list[list[int]] = [[], []]
    failed: list[BaseException] = []
    done = threading.Event()

    def read(counts: list[int]) -> None:
        while not done.is_set():
            try:
                counts.append(sum(len(table) for _, table in events_of(files, hour)))
            except BaseException as error:
                failed.append(error)
                return

    readers = [threading.Thread(target=read, args=(counts,)) for counts in seen]
    for reader in readers:
        reader.start()
    for number in range(5):
        record(tmp_path, [events(TOPICS[0], f"late-{number}", range(10))])
        assert main(["compact", "--archive", str(tmp_path)]) == 0
    done.set()
    for reader in readers:
        reader.join()
    assert failed == []
    for counts in seen:
        assert set(counts) <= {60, 70, 80, 90, 100, 110}
        assert counts == sorted(counts)


@pytest.mark.parametrize("killed", [False, True])
def test_where_directories_cannot_be_exchanged_a_crash_is_put_right(tmp_path: Path, killed: bool) -> None:
    files = LocalFiles(tmp_path, exchange=False)
    target = "events/schema=A/dt=2010-05-09/hour=00"
    for content in (b"old", b"new"):
        staged = files.stage()
        with files.create(f"{staged}/part") as file:
            file.write(content)
        if content == b"new" and killed:
            aside = tmp_path / files.stage() / "taken" / target
            aside.parent.mkdir(parents=True)
            (tmp_path / target).rename(aside)
        else:
            files.swap(staged, target)
    with files.alone():
        files.recover()
    assert (tmp_path / target / "part").read_bytes() == (b"old" if killed else b"new")
    assert not (tmp_path / "events/.staging").exists()


@pytest.mark.parametrize(("runner", "number"), [("DirectRunner", signal.SIGINT), ("PrismRunner", signal.SIGTERM)])
def test_a_signal_ends_it_cleanly_and_the_next_run_finishes(tmp_path: Path, runner: str, number: signal.Signals) -> None:
    pieces = [(f"g{gateway}", range(start, start + 200)) for gateway in range(20) for start in range(0, 8_000, 200)]
    messages = [events(TOPICS[0], gateway, numbers, every=1.0) for gateway, numbers in pieces]
    record(tmp_path, messages, append=50)
    command = [
        sys.executable,
        "-m",
        "pipelines.run",
        "compact",
        "--archive",
        str(tmp_path),
        "--runner",
        runner,
        "--progress",
        "always",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    # The bar is drawn once the job runs.
    shown = ""
    while "records" not in shown:
        piece = process.stderr.read(1)
        assert piece, shown
        shown += piece
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(60) == 1, shown + rest
    assert "interrupted" in rest
    assert not (tmp_path / "events/.staging").exists()
    assert main(["compact", "--archive", str(tmp_path)]) == 0
    assert same(stored(tmp_path), expected(messages))
