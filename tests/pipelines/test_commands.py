"""Commands of rules on their way: what has been decided is published and recorded, once, whatever happens in between."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers import connect
from brokers.errors import BrokerUnavailable
from pipelines.command_brokers import FindBroker, OneBroker
from pipelines.commands import CommandOffice
from pipelines.rule_memory import PUBLISH, RECORD, JobRuleMemory
from schemas.command import Command, decode_command
from schemas.errors import IoTCloudError
from storage import Sink, StoreUnavailable, open_sink
from transforms.admit import wall_clock
from transforms.rules.fired import Fired

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30.0
MINUTE = 60_000_000


def fired(number: int, *, gateway: str = "g1", alert: bool = True, command: bool = True, deadline: int = MINUTE) -> Fired:
    now = wall_clock()
    id_ = f"id-{number:05d}"
    order = Command(id_, gateway, f"fan-{number}", "on", "{}", "rule:r", now, now + deadline)
    return Fired(id_, "r", f"mote-{number}", "c", "raised", 5, "{}", '{"mean": 71.5}', alert, order if command else None, 1, 2)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[JobRuleMemory]:
    found = JobRuleMemory(tmp_path / "state" / "rules.sqlite")
    yield found
    found.close()


@contextmanager
def office(
    memory: JobRuleMemory, tmp_path: Path, *, broker: FindBroker | None = None, sink: Any = None
) -> Iterator[CommandOffice]:
    sink = sink or open_sink(f"sqlite:{tmp_path}/results.sqlite")
    found = CommandOffice(memory, broker or OneBroker(f"local:{tmp_path}/log"), [sink])
    try:
        yield found
    finally:
        found.close(timeout=0)
        sink.close()


def published(tmp_path: Path, gateway: str = "g1") -> list[Command]:
    reader = connect(f"local:{tmp_path}/log").log_reader()
    try:
        topic = f"{gateway}.commands"
        if not reader.partitions(topic):
            return []
        return [decode_command(record.value) for record in reader.read(topic, 0, 0, max_records=100_000, max_bytes=1 << 30)]
    finally:
        reader.close()


def rows(tmp_path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(tmp_path / "results.sqlite", timeout=10)) as connection:
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:  # before the first write there is no table
            return []


def eventually(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.01)


def test_what_is_fired_is_published_to_its_gateway_and_recorded(memory: JobRuleMemory, tmp_path: Path) -> None:
    sent = [fired(number) for number in range(5)] + [fired(9, gateway="g2", alert=False)]
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, sent)
        assert working.close(timeout=PATIENCE) == 0
    assert published(tmp_path) == [found.command for found in sent[:5]]
    assert published(tmp_path, "g2") == [sent[5].command]
    assert rows(tmp_path, "SELECT id, state, published_at >= issued_at FROM commands ORDER BY id") == [
        (found.id, "published", 1) for found in sent
    ]
    assert rows(tmp_path, "SELECT id, rule, device, state, detail FROM alerts ORDER BY id") == [
        (found.id, "r", found.device, "raised", '{"mean": 71.5}') for found in sent[:5]
    ]


def test_an_alert_alone_is_recorded_without_a_broker(memory: JobRuleMemory, tmp_path: Path) -> None:
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, [fired(1, command=False)])
        assert working.close(timeout=PATIENCE) == 0
    assert rows(tmp_path, "SELECT count(*) FROM alerts") == [(1,)]
    assert rows(tmp_path, "SELECT * FROM commands") == []


def test_an_id_is_published_once_and_with_its_first_content(memory: JobRuleMemory, tmp_path: Path) -> None:
    first, again = fired(1), fired(1, deadline=2 * MINUTE)
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, [first])
        eventually(lambda: len(published(tmp_path)) == 1, "the first is published")
        memory.commit("r", {}, [again])
        assert working.close(timeout=PATIENCE) == 0
    assert published(tmp_path) == [first.command]


def test_what_an_earlier_life_left_is_taken_up(tmp_path: Path) -> None:
    earlier = JobRuleMemory(tmp_path / "rules.sqlite")
    earlier.commit("r", {("a", "c"): b"state"}, [fired(1)])
    earlier.close()
    memory = JobRuleMemory(tmp_path / "rules.sqlite")
    assert memory.load("r") == {("a", "c"): b"state"}
    with office(memory, tmp_path) as working:
        assert working.close(timeout=PATIENCE) == 0
    memory.close()
    assert len(published(tmp_path)) == 1


class Away:
    """Brokers of which one is not known until `back`."""

    def __init__(self, here: str, away: str) -> None:
        self.here = here
        self.away = away
        self.back = False

    def __call__(self, gateway: str) -> str:
        if gateway == self.away and not self.back:
            raise BrokerUnavailable("away")
        return self.here


def test_a_broker_that_is_away_holds_up_no_other_and_gets_its_commands_later(memory: JobRuleMemory, tmp_path: Path) -> None:
    brokers = Away(f"local:{tmp_path}/log", "g2")
    with office(memory, tmp_path, broker=brokers) as working:
        memory.commit("r", {}, [fired(1, gateway="g2"), fired(2), fired(3, gateway="g2")])
        eventually(lambda: len(published(tmp_path)) == 1, "the other gateway has its command")
        assert published(tmp_path, "g2") == []
        brokers.back = True
        assert working.close(timeout=PATIENCE) == 0
    assert [command.id for command in published(tmp_path, "g2")] == ["id-00001", "id-00003"]


def test_a_broker_that_cannot_be_written_is_tried_again(memory: JobRuleMemory, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, [fired(1)])
        assert working.close(timeout=0.3) == 1
    (tmp_path / "log").unlink()
    with office(memory, tmp_path) as working:
        assert working.close(timeout=PATIENCE) == 0
    assert len(published(tmp_path)) == 1


def test_past_its_deadline_a_command_is_recorded_as_expired_and_not_published(memory: JobRuleMemory, tmp_path: Path) -> None:
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, [fired(1, deadline=-1)])
        assert working.close(timeout=PATIENCE) == 0
    assert published(tmp_path) == []
    assert rows(tmp_path, "SELECT state, published_at FROM commands") == [("expired", None)]


def test_a_gateway_that_cannot_be_is_refused_and_holds_up_no_other(memory: JobRuleMemory, tmp_path: Path) -> None:
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, [fired(1, gateway="not a name"), fired(2, gateway=""), fired(3)])
        assert working.close(timeout=PATIENCE) == 0
    assert [command.id for command in published(tmp_path)] == ["id-00003"]
    assert rows(tmp_path, "SELECT state, detail IS NULL FROM commands ORDER BY id") == [
        ("refused", 0),
        ("refused", 0),
        ("published", 1),
    ]


class Failing:
    """A sink that fails until `back`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.back = False

    def write(self, table: str, of: Any) -> None:
        if not self.back:
            raise StoreUnavailable("away")
        self._sink.write(table, of)

    def close(self) -> None:
        self._sink.close()


def test_a_sink_that_fails_holds_up_no_command_and_gets_its_rows_later(memory: JobRuleMemory, tmp_path: Path) -> None:
    sink = Failing(open_sink(f"sqlite:{tmp_path}/results.sqlite"))
    with office(memory, tmp_path, sink=sink) as working:
        memory.commit("r", {}, [fired(1), fired(2)])
        eventually(lambda: len(published(tmp_path)) == 2, "both are published")
        assert (memory.pending(PUBLISH), len(memory.pending(RECORD))) == ([], 2)
        sink.back = True
        assert working.close(timeout=PATIENCE) == 0
    assert rows(tmp_path, "SELECT state FROM commands") == [("published",)] * 2


def test_states_and_what_was_fired_are_remembered_together(memory: JobRuleMemory) -> None:
    memory.commit("r", {("a", "c"): b"1", ("b", "c"): b"2"}, [])
    memory.commit("r", {("a", "c"): b"3"}, [fired(1)])
    memory.commit("other", {("a", "c"): b"4"}, [])
    assert memory.load("r") == {("a", "c"): b"3", ("b", "c"): b"2"}
    assert [found.fired.id for found in memory.pending(PUBLISH)] == ["id-00001"]
    with pytest.raises(IoTCloudError):
        memory.commit("r", {("a", "c"): None}, [fired(2)])  # type: ignore[dict-item]
    assert memory.load("r")["a", "c"] == b"3"
    assert len(memory.pending(PUBLISH)) == 1


def test_a_job_without_a_directory_acts_all_the_same(tmp_path: Path) -> None:
    memory = JobRuleMemory(None)
    with office(memory, tmp_path) as working:
        memory.commit("r", {}, [fired(1)])
        assert working.close(timeout=PATIENCE) == 0
    memory.close()
    assert len(published(tmp_path)) == 1


DECIDING = """
import sys
from pathlib import Path
from pipelines.command_brokers import OneBroker
from pipelines.commands import CommandOffice
from pipelines.rule_memory import JobRuleMemory
from storage import open_sink
from tests.pipelines.test_commands import fired
folder = Path(sys.argv[1])
memory = JobRuleMemory(folder / "rules.sqlite")
office = CommandOffice(memory, OneBroker(f"local:{folder}/log"), [open_sink(f"sqlite:{folder}/results.sqlite")])
number = len(memory.load("r"))
while True:
    memory.commit("r", {(f"mote-{number}", "c"): b""}, [fired(number, deadline=10**12)])
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
def test_killed_at_any_moment_every_decision_is_published_and_recorded(tmp_path: Path) -> None:
    """What was told as decided is published; what is published again has the same content."""
    told = -1
    for round_ in range(4):
        process = subprocess.Popen([sys.executable, "-c", DECIDING, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.11 * round_)
        process.kill()
        told = max([told, *(int(line) for line in process.stdout.read().split())])
        process.communicate()
    memory = JobRuleMemory(tmp_path / "rules.sqlite")
    with office(memory, tmp_path) as working:
        assert working.close(timeout=PATIENCE) == 0
    decided = len(memory.load("r"))
    memory.close()
    assert decided > told >= 0
    found = published(tmp_path)
    assert len({command.id for command in found}) == len(set(found)) == decided
    assert rows(tmp_path, "SELECT count(*) FROM commands WHERE state = 'published'") == [(decided,)]
