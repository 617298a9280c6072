"""Supervision of real processes: what fails is started again, what hangs is killed, what is wrong is told."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.host.application import Application, Supervision, Wiring
from gateway_agent.host.messages import Hello, Start
from gateway_agent.outbox import Batch, Outbox, OutboxError, Route
from gateway_agent.outbox.queue import Done
from schemas.errors import ConfigurationError
from schemas.registry import event_schema
from tests.gateway_agent.kit import Account, eventually
from tests.gateway_agent.outbox.kit import GATEWAY, MAIN, publish_all

QUICK = Supervision(first_pause=0.01, longest_pause=0.05, failures=4, hung_after=3.0, stop_within=2.0)


def start_of(driver: str, settings: dict[str, Any]) -> Start:
    return Start("site", "app", f"tests.gateway_agent.probes:{driver}", settings, "gateway.toml", ".", {})


def wiring(hello: Hello) -> Wiring:
    schemas = {channel.name: event_schema(channel.schema) for channel in hello.channels}
    return Wiring(lambda channel, _: Route(f"site.app.{channel}", MAIN, schemas[channel]), (), 1 << 20)


@contextmanager
def running(
    outbox: Any,
    driver: str,
    settings: dict[str, Any],
    *,
    supervision: Supervision = QUICK,
    wire: Callable[[Hello], Wiring] = wiring,
    reports: list[tuple[str, str]] | None = None,
) -> Iterator[Application]:
    application = Application(
        start_of(driver, settings),
        outbox,
        wire=wire,
        report=lambda kind, detail: (reports if reports is not None else []).append((kind, detail)),
        supervision=supervision,
    )
    application.start()
    try:
        yield application
    finally:
        application.stop()
        assert application.join(20.0)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path, gateway=GATEWAY, transports=[MAIN])
    yield made
    made.close()


def wait_for(application: Application, state: str, *, within: float = 30.0) -> Any:
    return eventually(lambda: (one := application.status()).state == state and one, within=within, what=state)


@pytest.mark.parametrize("kind", ["raise", "exit"])
def test_a_driver_that_ends_is_started_again(outbox: Outbox, tmp_path: Path, kind: str) -> None:
    settings = {"kind": kind, "times": 2, "tally": str(tmp_path / "tally")}
    with running(outbox, "Troublesome", settings) as application:
        eventually(lambda: outbox.status().accepted == 1)
        status = application.status()
        assert (status.state, status.restarts) == ("running", 2)
    assert application.status().state == "stopped"


def once(failure: Exception, whole: Callable[..., Any]) -> Callable[..., Any]:
    """Raises when it is called first."""
    failures = iter([failure])

    def called(*arguments: Any, **options: Any) -> Any:
        for one in failures:
            raise one
        return whole(*arguments, **options)

    return called


@pytest.mark.parametrize("place", ["socketpair", "on_events"])
def test_an_agent_that_runs_out_of_files_or_errs_itself_still_looks_after_its_applications(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "socketpair":
        monkeypatch.setattr(socket, "socketpair", once(OSError(24, "Too many open files"), socket.socketpair))
    else:
        monkeypatch.setattr(Application, "on_events", once(RuntimeError("oh"), Application.on_events))
    reports: list[tuple[str, str]] = []
    with running(outbox, "Counter", {"count": 5}, reports=reports) as application:
        wait_for(application, "stopped")
    assert outbox.status().accepted == 5
    ((kind, detail),) = reports
    assert kind == "application_restarting"
    assert detail == (
        "could not be started: [Errno 24] Too many open files"
        if place == "socketpair"
        else "its supervision failed: RuntimeError: oh"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stop", "hang", "hold the interpreter"])
def test_a_process_that_hangs_is_killed_and_started_again(outbox: Outbox, tmp_path: Path, kind: str) -> None:
    """Guarantee: stopped by the kernel, holding the interpreter, or a `run` that is not heard of for longer than allowed."""
    settings = {"kind": kind, "times": 1, "tally": str(tmp_path / "tally")}
    reports: list[tuple[str, str]] = []
    with running(outbox, "Troublesome", settings, reports=reports) as application:
        eventually(lambda: outbox.status().accepted == 1, within=40)
        assert application.status().restarts == 1
        assert "hung" in reports[0][1]


@pytest.mark.slow
def test_what_fails_again_and_again_is_given_up_and_reported(outbox: Outbox) -> None:
    reports: list[tuple[str, str]] = []
    with running(outbox, "Troublesome", {"kind": "raise"}, reports=reports) as application:
        status = wait_for(application, "failed")
        assert "failed 4 times in 300 s" in status.detail
        assert "RuntimeError: it has come loose (probes.py:" in status.detail
        eventually(lambda: len(reports) == 4)
        assert [kind for kind, _ in reports] == ["application_restarting"] * 3 + ["application_failed"]


@pytest.mark.parametrize(
    ("driver", "settings", "problem"),
    [
        ("Counter", {"cuont": 3}, "applications.app.settings.cuont: unknown field; did you mean 'count'?"),
        ("Counter", {"count": "many"}, "applications.app.settings.count"),
        ("Troublesome", {"kind": "refuse"}, "wrong together"),
        ("Conuter", {}, "did you mean 'Counter'?"),
    ],
)
def test_wrong_settings_are_refused_at_once_with_the_path_of_the_field(
    outbox: Outbox, driver: str, settings: dict[str, Any], problem: str
) -> None:
    with running(outbox, driver, settings) as application:
        status = wait_for(application, "failed")
        assert problem in status.detail
        assert status.restarts == 0


def test_channels_that_cannot_be_as_configured_are_refused(outbox: Outbox) -> None:
    def refuse(hello: Hello) -> Wiring:
        raise ConfigurationError("no such channel")

    with running(outbox, "Counter", {"count": 1}, wire=refuse) as application:
        assert wait_for(application, "failed").detail == "no such channel"


def test_an_event_that_does_not_fit_raises_to_the_driver_and_harms_nobody(outbox: Outbox) -> None:
    with running(outbox, "Nonsense", {}) as application:
        wait_for(application, "stopped")
    sent = publish_all(outbox)
    texts = [event["value"] for event in Account([one.body for one in sent if one.topic == "site.app.text"]).events]
    assert len(texts) == 5
    assert "lacks value" in texts[0]
    assert "value = 'much' is no double" in texts[1]
    assert "unknown fields: vlaue" in texts[2]
    assert "no channel 'nubmer'" in texts[3]
    assert len(Account([one.body for one in sent if one.topic == "site.app.number"]).events) == 1


def test_a_driver_that_does_not_stop_is_killed_in_time(outbox: Outbox) -> None:
    with running(outbox, "Troublesome", {"kind": "ignore stop"}) as application:
        wait_for(application, "running")
        pid = application.status().pid
        assert pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_finished_driver_has_everything_on_disk(outbox: Outbox) -> None:
    with running(outbox, "Counter", {"count": 5000, "batch": 3}) as application:
        status = wait_for(application, "stopped")
        assert status.detail == "finished"
        assert outbox.status().accepted == 5000
        assert outbox.state_of("app") == b'{"at":5000}'


class SlowDisk:
    """An outbox whose disk takes nothing until it is let, and counts what it is offered meanwhile."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.let = threading.Event()
        self.held: list[tuple[Batch, Done]] = []
        self.offered = 0

    def submit(self, batch: Batch, done: Done) -> None:
        self.offered += sum(len(offer.tails) for offer in batch.offers)
        if self.let.is_set():
            self.outbox.submit(batch, done)
        else:
            self.held.append((batch, done))

    def release(self) -> None:
        held, self.held = self.held, []
        for one in held:
            self.outbox.submit(*one)
        self.let.set()

    def withdraw(self, application: str) -> None:
        held, self.held = self.held, []
        for _, done in held:
            done(OutboxError("withdrawn"))
        self.outbox.withdraw(application)

    def state_of(self, application: str) -> bytes | None:
        return self.outbox.state_of(application)


def test_a_driver_that_outruns_the_disk_is_slowed_not_buffered(outbox: Outbox) -> None:
    """Guarantee: no more than a bounded number of events is under way, however long the disk takes."""
    slow = SlowDisk(outbox)
    with running(slow, "Blaster", {"events": 60_000}) as application:
        eventually(lambda: len(slow.held) >= 16, what="all credit used")
        pid = application.status().pid
        assert pid
        # It cannot be told from outside that nothing more will come; a second is many times what 16 batches took.
        threading.Event().wait(1.0)
        assert slow.offered <= 16 * 1000
        slow.release()
        wait_for(application, "stopped")
    assert outbox.status().accepted == 60_000


def test_what_a_dead_process_had_under_way_is_not_accepted_later(outbox: Outbox) -> None:
    """Guarantee: the next process begins where accepted events end, so that nothing is there twice."""
    slow = SlowDisk(outbox)
    with running(slow, "Counter", {"count": 5_000, "batch": 10}) as application:
        eventually(lambda: len(slow.held) >= 3)
        pid = application.status().pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        slow.let.set()
        wait_for(application, "stopped")
    events = Account([one.body for one in publish_all(outbox)]).events
    assert [event["value"] for event in events] == [float(number) for number in range(5_000)]
