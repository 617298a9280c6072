"""``iotcloud prove`` on real outboxes, a real log and a real archive: each kind of damage is found, named, and counted."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brokers import Message, connect
from gateway_agent.outbox import Outbox
from gateway_agent.publisher import TransportPublisher, drained
from iotcloud.__main__ import main
from pipelines.archive import ArchiveLimits, archive_once
from schemas.registry import Schemas
from storage import open_journal
from tests.gateway_agent.outbox.kit import GATEWAY, MAIN, batch, route

TOPIC = "site.app.temperature"


@dataclass
class System:
    """A gateway's outbox, a log and an archive in one directory."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def log(self) -> str:
        return f"local:{self.root}/log"

    def outbox(self, **options: Any) -> Outbox:
        """Opened, which begins an epoch."""
        return Outbox(self.root / "data", gateway=GATEWAY, transports=[MAIN], **options)

    def accept(self, count: int, *, publish: bool = True, **options: Any) -> int:
        """Accept some frames of 10 events in an epoch of its own and publish what waits; returns the epoch."""
        outbox = self.outbox()
        for number in range(count):
            outbox.accept(batch([float(number)] * 10, route(**options)))
        if publish:
            publisher = TransportPublisher(MAIN, connect(self.log), outbox, gateway=GATEWAY, groups=())
            publisher.start()
            assert drained(outbox, 30)
            publisher.stop()
            publisher.join(5)
        outbox.close()
        return outbox.epoch

    def archive(self) -> None:
        """All there is, one frame an append."""
        reader, journal = connect(self.log).log_reader(), open_journal(f"files:{self.root}/archive", Schemas.with_shipped())
        while not archive_once(reader, journal, TOPIC, 0, ArchiveLimits(records=1), now=0, flush=True).complete:
            pass
        reader.close()
        journal.close()

    def append(self, offset: int) -> Path:
        return next((self.root / "archive").glob(f"journal/topic={TOPIC}/partition=0/*/*/{offset:020d}"))

    def prove(self, *more: str, gateway: str | None = "data") -> tuple[int, dict[str, Any]]:
        counters = ["--gateway", str(self.root / gateway)] if gateway else []
        self.capsys.readouterr()
        status = main(["prove", *counters, "--archive", str(self.root / "archive"), "--json", *more])
        told = self.capsys.readouterr()
        assert status in (0, 1, 3), told.err
        return status, json.loads(told.out)


@pytest.fixture
def system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> System:
    return System(tmp_path, capsys)


def test_everything_is_accounted_for(system: System) -> None:
    epochs = [system.accept(3), system.accept(2)]
    system.archive()
    status, found = system.prove()
    assert (status, found["verdict"]) == (0, "proved")
    assert [(row["epoch"], row["accepted"], row["stored"]) for row in found["rows"]] == [
        (epochs[0], 30, 30),
        (epochs[1], 20, 20),
    ]
    assert found["problems"] == found["remarks"] == []
    # The ledger that a gateway prints, carried here as a file, and the outbox's own file say the same.
    ledger = system.root / "gateway.json"
    assert main(["gateway", "outbox", "ledger", str(system.root / "data")]) == 0
    ledger.write_text(system.capsys.readouterr().out)
    for place in ("gateway.json", "data/outbox.sqlite"):
        assert system.prove(gateway=place)[1]["rows"] == found["rows"]


def test_a_gateway_that_has_accepted_nothing_has_lost_nothing(system: System) -> None:
    system.accept(0)
    status, found = system.prove()
    assert (status, found["rows"], found["totals"]["accepted"]) == (0, [], 0)


def test_what_is_gone_from_the_archive_is_named_by_sequence(system: System) -> None:
    epoch = system.accept(6)
    system.archive()
    # Offset 0 holds the start of the epoch: these are the third and the fifth frame.
    for offset in (3, 5):
        next(system.append(offset).iterdir()).unlink()
    for more in ((), ("--source", f"{system.log}/{TOPIC}")):
        status, found = system.prove(*more)
        (row,) = found["rows"]
        assert status == 1
        assert (row["epoch"], row["stored"], row["pending"], row["unexplained"]) == (epoch, 40, 0, 20)
        assert row["unexplained_ranges"] == [{"first": 20, "last": 29}, {"first": 40, "last": 49}]


def test_a_file_that_is_damaged_hides_no_other(system: System) -> None:
    system.accept(7)
    system.archive()
    for offset in (2, 5):
        file = next(system.append(offset).iterdir())
        file.write_bytes(file.read_bytes()[:-20])
    status, found = system.prove()
    assert status == 1
    assert found["rows"][0]["unexplained_ranges"] == [{"first": 10, "last": 19}, {"first": 40, "last": 49}]
    assert ["is damaged" in problem for problem in found["problems"]] == [True, True]


@pytest.mark.parametrize("damage", [lambda frame: frame[:-5], lambda frame: frame[:10] + b"\xff" * 9], ids=["tail", "head"])
def test_a_frame_that_was_damaged_on_its_way_is_a_dead_letter(system: System, damage: Callable[[bytes], bytes]) -> None:
    outbox = system.outbox()
    for number in range(4):
        outbox.accept(batch([float(number)] * 10))
    held = outbox.hand_out(MAIN, after=-1)
    bodies = [damage(frame.body) if frame.first == 10 and frame.count else frame.body for frame in held]
    publisher = connect(system.log).publisher()
    publisher.publish([Message(TOPIC, GATEWAY, body) for body in bodies])
    publisher.close()
    outbox.let_go(held)
    outbox.close()
    system.archive()
    status, found = system.prove()
    (row,) = found["rows"]
    assert (status, row["stored"], row["dead_lettered"], row["duplicates"]) == (0, 30, 10, 0)


def test_what_a_full_outbox_gave_up_is_dropped_with_its_reason(system: System) -> None:
    outbox = system.outbox(max_bytes=2_000)
    for number in range(20):
        outbox.accept(batch([float(number)] * 10, route(when_full="drop_oldest")))
    dropped = outbox.status().dropped
    outbox.close()
    assert dropped
    # While the record that says so waits in the outbox, and when it is archived.
    for _ in range(2):
        status, found = system.prove()
        (row, *_) = found["rows"]
        assert status == 0
        assert row["dropped_by_reason"] == {"outbox-full": dropped}
        assert row["stored"] + row["buffered"] + dropped == 200
        system.accept(0)
        system.archive()
    assert row["stored"] == 200 - dropped


def test_what_waits_for_a_broker_is_buffered(system: System) -> None:
    """Also when it was accepted in several epochs, and the outbox is read while an agent has it open."""
    system.accept(2)
    system.archive()
    before = system.accept(2, publish=False)
    outbox = system.outbox()
    outbox.accept(batch([0.0] * 10))
    try:
        status, found = system.prove()
    finally:
        outbox.close()
    assert status == 0
    assert [(row["epoch"], row["stored"], row["buffered"]) for row in found["rows"]][1:] == [
        (before, 0, 20),
        (outbox.epoch, 0, 10),
    ]


def test_what_is_in_the_broker_is_not_lost(system: System) -> None:
    """Guarantee: no false alarm beside a system at work, and the next step is said."""
    system.accept(2)
    system.archive()
    last = system.accept(3)
    status, found = system.prove()
    assert (status, found["verdict"]) == (3, "undecided")
    assert found["totals"]["unexplained"] == 0
    assert found["rows"][1]["pending_ranges"] == [{"first": 0, "last": 29}]
    assert any("--source" in line and "archive --until-end" in line for line in found["remarks"])
    status, found = system.prove("--source", f"{system.log}/{TOPIC}")
    assert status == 0
    assert (found["rows"][1]["epoch"], found["rows"][1]["in_broker"]) == (last, 30)
    # Said to be all there is, it is not.
    assert system.prove("--final")[0] == 1


def test_another_log_than_the_one_archived_is_refused(system: System) -> None:
    system.accept(2)
    system.archive()
    connect(f"local:{system.root}/other").create_topic(TOPIC)
    status = main(["prove", "--archive", str(system.root / "archive"), "--source", f"local:{system.root}/other/{TOPIC}"])
    assert status == 2
    assert "it is another one" in system.capsys.readouterr().err


def test_events_sent_twice_are_duplicates_and_nothing_else(system: System) -> None:
    system.accept(3)
    reader, publisher = connect(system.log).log_reader(), connect(system.log).publisher()
    again = reader.read(TOPIC, 0, 1, max_records=2, max_bytes=1 << 20)
    publisher.publish([Message(TOPIC, GATEWAY, record.value) for record in again])
    reader.close()
    publisher.close()
    system.archive()
    status, found = system.prove()
    (row,) = found["rows"]
    assert (status, row["accepted"], row["stored"], row["duplicates"]) == (0, 30, 30, 20)


def test_the_disk_of_a_gateway_is_gone(system: System) -> None:
    """The log says what is missing before the last event that it has; what came after, only a later epoch of the same disk."""
    first, last = system.accept(4), system.accept(2)
    system.archive()
    shutil.rmtree(system.root / "data")
    status, found = system.prove(gateway=None)
    assert status == 3
    assert [(row["epoch"], row["stored"], row["open_ended"]) for row in found["rows"]] == [
        (first, 40, False),
        (last, 20, True),
    ]
    assert any("--final" in line for line in found["remarks"])
    assert system.prove("--final", gateway=None)[0] == 0
    # A new disk begins anew; its counters say nothing of what was before.
    new = system.accept(1)
    system.archive()
    status, found = system.prove()
    assert status == 3
    assert [(row["epoch"], row["open_ended"]) for row in found["rows"]] == [(first, False), (last, True), (new, False)]
    next(system.append(2).iterdir()).unlink()
    assert system.prove("--final")[1]["rows"][0]["unexplained_ranges"] == [{"first": 10, "last": 19}]


def test_an_outbox_that_was_repaired(system: System) -> None:
    system.accept(2)
    system.accept(3, publish=False)
    with closing(sqlite3.connect(system.root / "data" / "outbox.sqlite")) as file:
        file.execute("UPDATE frames SET body = x'00' WHERE count AND first = 10")
        file.commit()
    system.accept(0)
    system.archive()
    status, found = system.prove()
    assert status == 0
    assert found["rows"][1]["dropped_by_reason"] == {"damaged": 10}
    assert found["rows"][1]["stored"] == 20


def test_the_table_is_for_people(system: System) -> None:
    epoch = system.accept(3)
    system.archive()
    next(system.append(2).iterdir()).unlink()
    assert (
        main(["prove", "--gateway", str(system.root / "data"), "--archive", str(system.root / "archive"), "--progress", "always"])
        == 1
    )
    told, bar = system.capsys.readouterr()
    assert "100%" in bar
    assert f"{TOPIC} {GATEWAY} epoch {epoch}: 10 to 19 (10), unexplained" in told
    assert "✗ 30 events accepted, 10 of them unexplained" in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--archive", "nothing-here"],
        ["--archive", "DIR", "--gateway", "no-such-place"],
        ["--archive", "DIR", "--source", "local:log"],
        ["--archive", "DIR", "--source", "amqp://guest:guest@localhost/t"],
        ["--archive", "DIR", "--unknown"],
    ],
)
def test_what_cannot_be_asked_is_said_and_exits_2(
    arguments: list[str], system: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(system.root)
    system.accept(1)
    system.archive()
    (system.root / "archive").rename(system.root / "DIR")
    assert main(["prove", *arguments]) == 2
    assert capsys.readouterr().err
