"""A job that is told to stop: its archive writes what the log held, and nobody who is away holds up its end for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.restriction_trackers import OffsetRange

from brokers import connect
from pipelines.archive import ArchiveLimits, ArchivePartition
from pipelines.closing import let_go
from pipelines.session import Session, close_session, open_session
from pipelines.signals import Signals
from pipelines.sources.log import ENDLESS, Partition
from schemas.registry import Schemas
from storage import StoreUnavailable, open_journal
from tests.pipelines.test_archive import TOPIC, publish


class Tracker:
    """Takes every claim, and lets go of what is put off."""

    def __init__(self) -> None:
        self.calls = 0

    def current_restriction(self) -> OffsetRange:
        return OffsetRange(self.calls, ENDLESS)

    def try_claim(self, position: int) -> bool:
        self.calls = position + 1
        return True

    def defer_remainder(self, _pause: Any) -> None:
        return


class Archiving:
    """The archive's branch of a job on one partition."""

    def __init__(self, folder: Path, session: Session, job: str, archive: Path) -> None:
        self.log = f"local:{folder}/log"
        self.journal = f"files:{archive}"
        self.session = session
        self._step = ArchivePartition(job, self.journal, tuple(Schemas.with_shipped()), ArchiveLimits(wait=2**60))
        self._step.setup()
        self._tracker = Tracker()

    def look(self) -> int:
        """One call. Returns how many records are archived."""
        list(self._step.process(Partition(self.log, TOPIC, 0, 0, ENDLESS), self._tracker))
        return sum(1 for _ in open_journal(self.journal, Schemas.with_shipped()).read(TOPIC, 0))


@pytest.fixture
def archiving(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    job = request.node.name
    yield Archiving(tmp_path, open_session(job, credit=1 << 20), job, tmp_path / "archive")
    close_session(job)


def test_a_stop_waits_until_the_archive_has_what_the_log_held_then_and_no_longer(archiving: Archiving) -> None:
    publish(archiving.log, "rrr")
    assert archiving.look() == 0
    assert archiving.session.unarchived == {(TOPIC, 0)}
    publish(archiving.log, "r")
    archiving.session.stopping.set()
    assert archiving.look() == 4
    assert not archiving.session.unarchived
    publish(archiving.log, "r")
    assert archiving.look() == 4


def test_a_partition_that_had_nothing_at_the_last_look_is_looked_at_once_more(archiving: Archiving) -> None:
    connect(archiving.log).create_topic(TOPIC)
    assert archiving.look() == 0
    publish(archiving.log, "r")
    archiving.session.stopping.set()
    assert archiving.session.unarchived
    assert archiving.look() == 1
    assert not archiving.session.unarchived


def test_a_stop_does_not_wait_for_a_store_that_fails(archiving: Archiving, tmp_path: Path) -> None:
    publish(archiving.log, "r")
    (tmp_path / "archive").write_text("not a directory")
    archiving.session.stopping.set()
    archiving.session.unarchived.add((TOPIC, 0))
    assert archiving.look() == 0
    assert not archiving.session.unarchived


@pytest.fixture
def stuck() -> Any:
    """Something that takes until the test is over."""
    over = threading.Event()
    yield over.wait
    over.set()


def test_what_does_not_end_is_waited_for_no_longer_than_allowed(stuck: Callable[[], object]) -> None:
    began = time.monotonic()
    assert not let_go("stuck", stuck, Signals(), within=0.2)
    assert time.monotonic() - began < 5


def test_the_second_signal_ends_waiting_for_what_does_not_end(stuck: Callable[[], object]) -> None:
    signals = Signals()
    signals.received = 1
    second = threading.Timer(0.3, lambda: setattr(signals, "received", 2))
    began = time.monotonic()
    second.start()
    assert not let_go("stuck", stuck, signals, within=60)
    assert 0.3 <= time.monotonic() - began < 10


def test_after_the_second_signal_what_is_quick_is_still_closed() -> None:
    signals, closed = Signals(), threading.Event()
    signals.received = 2
    assert let_go("quick", closed.set, signals)
    assert closed.is_set()


def test_a_store_that_is_away_at_the_end_fails_no_job_and_a_bug_does() -> None:
    def away() -> None:
        raise StoreUnavailable("away", remedy="wait")

    assert not let_go("away", away, Signals())
    with pytest.raises(ZeroDivisionError):
        let_go("bug", lambda: 1 // 0, Signals())
