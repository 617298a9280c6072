"""Which brokers carry commands and results is told by what is registered, whatever else is registered beside it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import brokers
from master.clock import Clock
from master.dispatch.dispatcher import Dispatcher
from master.dispatch.following import Follower
from master.dispatch.sending import Sender
from master.errors import NotFound
from master.registration import Checked
from master.selection import Selection
from master.store import commands, gateways
from master.store.database import Database
from master.store.positions import StoredPositions
from schemas.command import Command, CommandState
from schemas.topics import results_topic
from tests.master.gateways import broker_in, registration, state_message, until


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'master.sqlite'}")
    yield database
    database.close()


@pytest.fixture
def dispatcher(database: Database) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(database, Clock(), lambda _readable, _unreadable: None)
    yield dispatcher
    dispatcher.close()


def _store(database: Database, gateway: str, broker_url: str) -> None:
    """As a master stored it that did not check it."""
    message = registration(gateway, broker_url, channels=())
    with database.write() as connection:
        gateways.register(connection, Checked(message, {}), time=1, lease_until=2)


def test_a_gateway_whose_id_is_too_long_for_its_topics_keeps_no_other_from_being_followed(
    database: Database, dispatcher: Dispatcher, broker_url: str
) -> None:
    _store(database, "g" * 193, broker_url)
    _store(database, "fine", broker_url)
    dispatcher.start()
    dispatcher.refresh()
    assert [(one.broker, one.gateways) for one in dispatcher.status()] == [(broker_url, 1)]
    with pytest.raises(NotFound, match="no broker for commands"):
        dispatcher.send(Command("1", "g" * 193, "d", "stop", "{}", "test", 1, 2))


def test_a_broker_of_no_other_gateway_is_not_followed_for_one_whose_id_is_too_long(
    database: Database, dispatcher: Dispatcher, tmp_path: Path
) -> None:
    _store(database, "g" * 193, broker_in(tmp_path))
    dispatcher.start()
    assert dispatcher.status() == []


def test_a_command_is_never_given_to_a_sender_that_is_closed_meanwhile(
    database: Database, dispatcher: Dispatcher, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway moves to another broker while a command for it is on its way to the sender of the old one."""
    _store(database, "g", broker_url)
    dispatcher.start()
    order = Command(str(uuid4()), "g", "d", "stop", "{}", "test", 1, time.time_ns() // 1_000 + 60_000_000)
    with database.write() as connection:
        commands.issue(connection, order)
    give, moves = Sender.send, threading.Event()

    def slowly(sender: Sender, command: Command) -> None:
        moved = threading.Thread(target=lambda: (dispatcher.refresh(), moves.set()))
        moved.start()
        moves.wait(0.3)
        give(sender, command)

    monkeypatch.setattr(Sender, "send", slowly)
    _store(database, "g", broker_in(tmp_path / "other"))
    dispatcher.send(order)

    def reached() -> bool:
        with database.read() as connection:
            return (known := commands.get(connection, order.id)) is not None and known.state == "sent"

    until(reached, within=20)


def test_a_step_with_a_character_that_a_database_refuses_is_recorded_without_it(database: Database) -> None:
    with database.write() as connection:
        commands.record(connection, [CommandState("1", "g", "d", "failed", 1, "bad\0byte")], time=1)
    with database.read() as connection:
        (step,) = commands.states(connection, "1", after=0)
    assert step.detail == "bad\N{REPLACEMENT CHARACTER}byte"


def test_a_log_that_was_replaced_is_read_from_its_beginning_and_no_other_is(database: Database, tmp_path: Path) -> None:
    url = broker_in(tmp_path)
    topics = [results_topic("a"), results_topic("b")]
    read: list[int] = []

    def publish(gateway: str, number: int) -> None:
        publisher = brokers.connect(url).publisher()
        publisher.publish([state_message(f"{gateway}{number}", gateway, "d", "done")])
        publisher.close()

    def follow(count: int) -> None:
        follower = Follower(url, database, Clock(), lambda readable, _: read.append(readable))
        follower.follow(topics)
        until(lambda: sum(read) >= count)
        follower.close()

    for number in range(3):
        publish("a", number)
        publish("b", number)
    follow(6)
    shutil.rmtree(tmp_path / "broker" / f"{results_topic('a')}.log")
    publish("a", 3)
    publish("b", 3)
    follow(8)
    with database.read() as connection:
        known = {command.id for command in commands.commands(connection, Selection()).items}
    assert known == {f"{gateway}{number}" for gateway in "ab" for number in range(4)}
    assert sum(read) == 8, "what was read of the other one is not read again"


def test_a_topic_that_is_refused_for_another_reason_costs_no_position(database: Database, tmp_path: Path) -> None:
    url = broker_in(tmp_path)
    publisher = brokers.connect(url).publisher()
    publisher.publish([state_message("1", "a", "d", "done")])
    publisher.close()
    positions = StoredPositions(database, url)
    positions.store({(results_topic("a"), 0): 1, ("another", 0): 9})
    follower = Follower(url, database, Clock(), lambda _readable, _unreadable: None)
    try:
        follower._begin_anew([results_topic("a")])
        assert positions.stored({results_topic("a"), "another"}) == {(results_topic("a"), 0): 1, ("another", 0): 9}
    finally:
        follower.close()
