"""Commands: each at most once, none after its deadline, and what became of it is told at least once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokers import Message, connect
from gateway_agent.commands import Commands, Target
from gateway_agent.host.messages import Execute, Executed
from gateway_agent.journal import Journal
from gateway_agent.outbox import wall_clock
from schemas.command import Command, CommandState, decode_command_state, encode_command
from tests.gateway_agent.kit import bodies, eventually

COMMANDS, RESULTS = "gw-1.commands", "gw-1.results"


class Device:
    """Executes, as a fleet with one application would."""

    def __init__(self) -> None:
        self.commands: Commands | None = None
        self.executed: list[str] = []
        self.answer = Target("ready", "app")
        self.silent = False
        self.gone = False

    def target(self, device: str, command: str) -> Target:
        return self.answer

    def execute(self, application: str, command: Execute) -> bool:
        if self.gone:
            return False
        self.executed.append(command.id)
        if not self.silent and self.commands:
            self.commands.executed(Executed(command.id, "done", '{"on":true}'))
        return True


def command(number: int, *, deadline: float = 60.0, gateway: str = "gw-1") -> Command:
    now = wall_clock()
    return Command(f"c-{number}", gateway, "fan-1", "on", "{}", "test", now, now + int(deadline * 1e6))


def send(url: str, *commands: Command) -> None:
    publisher = connect(url).publisher()
    publisher.publish([Message(COMMANDS, one.device, encode_command(one)) for one in commands])
    publisher.close()


def told(url: str) -> list[CommandState]:
    return [decode_command_state(body) for body in bodies(url, RESULTS)]


def steps(url: str, number: int) -> list[str]:
    return [state.state for state in told(url) if state.id == f"c-{number}"]


@contextmanager
def serving(url: str, directory: Path, device: Device, *, journal: str = "journal.sqlite") -> Iterator[Journal]:
    open_journal = Journal(directory / journal)
    commands = device.commands = Commands("gw-1", connect(url), open_journal, device)
    commands.start()
    try:
        yield open_journal
    finally:
        commands.stop(10.0)
        open_journal.close()


def test_a_command_is_executed_and_each_step_told_in_order(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    send(broker_url, command(1))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["accepted", "started", "done"])
    assert device.executed == ["c-1"]
    assert told(broker_url)[-1].detail == '{"on":true}'


def test_a_command_that_comes_again_is_not_executed_again(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    send(broker_url, command(1), command(1))
    with serving(broker_url, tmp_path, device):
        send(broker_url, command(1), command(2))
        eventually(lambda: "done" in steps(broker_url, 2))
    with serving(broker_url, tmp_path, device):
        send(broker_url, command(1), command(2), command(3))
        eventually(lambda: "done" in steps(broker_url, 3))
    assert device.executed == ["c-1", "c-2", "c-3"]


def test_a_command_past_its_deadline_is_not_executed(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    send(broker_url, command(1, deadline=-0.001))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["expired"])
    assert device.executed == []


def test_what_nobody_takes_fails_with_the_reason(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    device.answer = Target("never", reason="no device 'fan-1' here; did you mean 'fan-2'?")
    send(broker_url, command(1), command(2, gateway="gw-2"))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 2) == ["failed"])
        assert steps(broker_url, 1) == ["failed"]
    assert [state.detail for state in told(broker_url)] == [
        "no device 'fan-1' here; did you mean 'fan-2'?",
        "is for the gateway 'gw-2', this is 'gw-1'",
    ]


def test_a_command_waits_for_its_application_up_to_its_deadline(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    device.answer = Target("wait")
    with serving(broker_url, tmp_path, device):
        send(broker_url, command(1, deadline=1.0), command(2))
        eventually(lambda: steps(broker_url, 1) == ["accepted", "expired"])
        assert device.executed == []
        device.answer = Target("ready", "app")
        eventually(lambda: steps(broker_url, 2) == ["accepted", "started", "done"])
    assert device.executed == ["c-2"]


def test_a_command_that_only_waited_when_the_agent_died_is_executed_by_the_next(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    device.answer = Target("wait")
    send(broker_url, command(1))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["accepted"])
    device.answer = Target("ready", "app")
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["accepted", "started", "done"])
    assert device.executed == ["c-1"]


def test_a_command_that_had_started_when_the_agent_died_has_an_unknown_end(broker_url: str, tmp_path: Path) -> None:
    """Guarantee: it is not executed again, for it may have been."""
    device = Device()
    device.silent = True
    send(broker_url, command(1))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["accepted", "started"])
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["accepted", "started", "unknown"])
    assert device.executed == ["c-1"]


def test_a_command_whose_application_ended_has_an_unknown_end(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    device.silent = True
    send(broker_url, command(1))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: steps(broker_url, 1) == ["accepted", "started"])
        assert device.commands
        device.commands.application_ended("other")
        device.commands.application_ended("app")
        eventually(lambda: steps(broker_url, 1) == ["accepted", "started", "unknown"])
        # What the process says after all is too late.
        device.commands.executed(Executed("c-1", "done", ""))
    assert steps(broker_url, 1) == ["accepted", "started", "unknown"]


def test_rubbish_among_commands_is_passed_over(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    publisher = connect(broker_url).publisher()
    publisher.publish([Message(COMMANDS, "fan-1", b"rubbish"), Message(COMMANDS, "fan-1", b"")])
    publisher.close()
    send(broker_url, command(1))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: "done" in steps(broker_url, 1))


def test_results_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    away = tmp_path / "not-there-yet"
    url = f"local:{away / 'broker'}"
    device = Device()
    with serving(url, tmp_path, device) as journal:
        assert journal.begin(command(1), "failed", "no such device")
        time.sleep(0.2)
        assert len(journal.results()) == 1
        away.mkdir()
        eventually(lambda: steps(url, 1) == ["failed"])
        eventually(lambda: journal.results() == [])


def test_an_id_runs_once_though_the_driver_answers_from_many_threads(broker_url: str, tmp_path: Path) -> None:
    device = Device()
    device.silent = True
    send(broker_url, *(command(number) for number in range(50)))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: len(device.executed) == 50)
        commands = device.commands
        assert commands
        threads = [threading.Thread(target=commands.executed, args=(Executed(name, "done", ""),)) for name in device.executed * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: sum(state.state == "done" for state in told(broker_url)) == 50)
    assert len(told(broker_url)) == 150


def test_finished_commands_are_forgotten_long_after_their_deadline(tmp_path: Path) -> None:
    now = [1_700_000_000_000_000]
    journal = Journal(tmp_path / "journal.sqlite", clock=lambda: now[0])
    old = Command("old", "gw-1", "fan-1", "on", "{}", "test", now[0], now[0])
    journal.begin(old, "expired")
    journal.forget_old()
    assert journal.known("old")
    now[0] += 8 * 24 * 3_600_000_000
    journal.forget_old()
    assert not journal.known("old")
    journal.close()


def test_what_is_finished_is_forgotten_by_itself(broker_url: str, tmp_path: Path) -> None:
    now = wall_clock()
    journal = Journal(tmp_path / "journal.sqlite", clock=lambda: now - 30 * 24 * 3_600_000_000)
    assert journal.begin(Command("old", "gw-1", "fan-1", "on", "{}", "test", 0, 1), "expired")
    journal.close()
    with serving(broker_url, tmp_path, Device()) as open_journal:
        eventually(lambda: not open_journal.known("old"))


@pytest.mark.slow
def test_a_command_that_was_accepted_is_executed_though_the_broker_is_away_by_then(tmp_path: Path) -> None:
    device = Device()
    device.answer = Target("wait")
    journal = Journal(tmp_path / "journal.sqlite")
    journal.begin(command(1), "accepted")
    journal.begin(command(2, deadline=0.5), "accepted")
    journal.close()
    # Nobody listens there.
    with serving("mqtt://127.0.0.1:9", tmp_path, device) as journal:
        eventually(lambda: journal.counts() == {"accepted": 1, "expired": 1}, within=20)
        device.answer = Target("ready", "app")
        eventually(lambda: journal.counts() == {"done": 1, "expired": 1}, within=20)
    assert device.executed == ["c-1"]


def test_a_damaged_journal_is_put_aside_and_nothing_of_before_is_executed_again(broker_url: str, tmp_path: Path) -> None:
    """Guarantee: at most once, also when it is not known any more what has been executed."""
    device = Device()
    send(broker_url, command(1), command(2))
    with serving(broker_url, tmp_path, device):
        eventually(lambda: "done" in steps(broker_url, 2))
    path = tmp_path / "journal.sqlite"
    data = path.read_bytes()
    # All pages but the first: opening the file does not notice.
    path.write_bytes(data[:4096] + b"\xde\xad" * ((len(data) - 4096) // 2))
    journal = Journal(path)
    assert journal.put_aside
    assert journal.put_aside.exists()
    journal.close()
    with serving(broker_url, tmp_path, device) as again:
        assert again.put_aside is None
        eventually(lambda: steps(broker_url, 2)[-1] == "unknown")
        later = wall_clock() + 120_000_000
        send(broker_url, Command("c-3", "gw-1", "fan-1", "on", "{}", "test", later, later + 60_000_000))
        eventually(lambda: "done" in steps(broker_url, 3))
    assert device.executed == ["c-1", "c-2", "c-3"]


ACTUATOR = """
[applications.cooling]
driver = "tests.gateway_agent.probes:Actuator"
restart = { first_pause = 0.05, longest_pause = 0.1, failures = 100 }
"""


@pytest.mark.slow
def test_commands_reach_a_real_driver_and_its_answers_come_back(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    from tests.gateway_agent.kit import agent

    log = tmp_path / "executed"

    def order(number: int, name: str, args: str = "{}", device: str = "fan-1", within: float = 30) -> Command:
        now = wall_clock()
        return Command(f"c-{number}", "gw-1", device, name, args, "test", now, now + int(within * 1e6))

    with agent(configuration(ACTUATOR), environment={"EXECUTED": str(log)}):
        send(
            broker_url,
            order(1, "on"),
            order(2, "set_speed", '{"rpm": 900}'),
            order(3, "set_speed", '{"rpm": "fast"}'),
            order(4, "break"),
            order(5, "off"),
            order(6, "on", device="fan-7"),
            order(7, "wait", '{"seconds": 0.5}'),
            order(8, "on", within=0.2),
            order(9, "die"),
            order(10, "on"),
        )
        eventually(
            lambda: steps(broker_url, 10) in (["accepted", "started", "done"], ["accepted", "started", "unknown"]), within=60
        )
        eventually(lambda: steps(broker_url, 9) == ["accepted", "started", "unknown"])
    last = {state.id: (state.state, state.detail) for state in told(broker_url)}
    assert last["c-1"] == ("done", '{"on":true}')
    assert last["c-2"] == ("done", '{"rpm":900}')
    assert last["c-3"][0] == "failed"
    assert "rpm" in last["c-3"][1]
    assert last["c-4"] == ("failed", "the blade is stuck")
    assert last["c-5"][0] == "failed"
    assert "'fan-1' takes no command 'off'" in last["c-5"][1]
    assert last["c-6"] == ("failed", "no device 'fan-7' here; did you mean 'fan-1'?")
    assert last["c-8"][0] == "expired"
    assert sorted(set(log.read_text().split("\n"))) == sorted(log.read_text().split("\n")), "each at most once"


@pytest.mark.slow
def test_no_command_runs_twice_when_the_agent_is_killed_again_and_again(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    """Guarantee: at most once across SIGKILL, and every command has exactly one end, which is told."""
    from tests.gateway_agent.kit import agent

    log = tmp_path / "executed"
    log.touch()
    file = configuration(ACTUATOR)
    count = 300
    stop = threading.Event()

    def keep_sending() -> None:
        for number in range(count):
            send(broker_url, command(number))
            stop.wait(0.01)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        for pause in (0.7, 0.9, 0.6, 1.1):
            with agent(file, environment={"EXECUTED": str(log)}) as running:
                time.sleep(pause)
                running.kill()
    finally:
        stop.set()
        sender.join()
    with agent(file, environment={"EXECUTED": str(log)}) as running:

        def all_ended() -> bool:
            ends = {state.id for state in told(broker_url) if state.state in ("done", "failed", "expired", "unknown")}
            return len(ends) == count

        eventually(all_ended, within=60)
        assert running.terminate() == 0
    executed = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(executed) == len(set(executed))
    ends: dict[str, set[str]] = {}
    for state in told(broker_url):
        if state.state in ("done", "failed", "expired", "unknown"):
            ends.setdefault(state.id, set()).add(state.state)
    assert all(len(end) == 1 for end in ends.values())
    assert {name for name, end in ends.items() if "done" in end} <= set(executed)
    assert set(executed) <= {name for name, end in ends.items() if end & {"done", "unknown"}}
