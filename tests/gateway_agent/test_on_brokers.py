"""One agent and every broker that has a server: each channel by its own transport, commands over each, whoever dies."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from brokers import Broker, Message, connect
from brokers.subscription import subscribe
from gateway_agent.outbox import wall_clock
from schemas.command import Command, decode_command_state, encode_command
from schemas.topics import MASTER, commands_topic, results_topic
from tests.brokers.patience import acknowledge_or_again, poll_patiently, publish_patiently
from tests.gateway_agent.kit import Account, AgentProcess, agent, eventually
from tests.gateway_agent.on_brokers import received, revive, topic_of, until, write_configuration
from tests.servers.broker_server import BrokerServer, Servers
from tests.servers.every import names

pytestmark = pytest.mark.slow

#: How a broker goes away: its connections break, they fall silent, its process is killed.
AWAY: dict[str, Callable[[BrokerServer], None]] = {
    "cut": lambda server: server.proxy.cut(),
    "silent": lambda server: server.proxy.hang(),
    "killed": lambda server: server.process.kill(),
}


@pytest.fixture
def gateway() -> str:
    """Of this test alone: servers are shared."""
    return f"gw-{uuid4().hex[:10]}"


def counted(running: AgentProcess, gateway: str) -> dict[str, tuple[int, int]]:
    """Events accepted and published, by channel."""
    status = eventually(running.status, what="a status")
    prefix = topic_of(gateway, "")
    return {
        topic.removeprefix(prefix): (found["accepted"], found["published"])
        for topic, found in status["topics"].items()
        if topic.startswith(prefix)
    }


def all_published(running: AgentProcess, gateway: str, channels: int) -> bool:
    """Whether something of so many channels is."""
    found = counted(running, gateway)
    return len(found) == channels and all(published for _, published in found.values())


def goes_on(running: AgentProcess, gateway: str, victim: str, before: dict[str, tuple[int, int]]) -> bool:
    """Whether every channel but the victim's has gone on being published, while the victim's waits."""
    now = counted(running, gateway)
    others = all(now[name][1] >= before[name][1] + 40 for name in now if name != victim)
    return others and now[victim][0] >= now[victim][1] + 30


@pytest.mark.parametrize("away", AWAY)
def test_a_broker_that_is_away_holds_up_no_other_and_gets_all_when_it_is_back(
    away: str, servers: Servers, gateway: str, tmp_path: Path
) -> None:
    """Guarantee: publishing never holds up another transport; every event arrives, in order, once but for repeated frames."""
    file = tmp_path / "gateway.toml"
    urls = {name: servers[name].proxied_url() for name in names()}
    write_configuration(file, gateway, urls, channels={name: name for name in names()})
    with agent(file) as running:
        eventually(
            lambda: len(found := counted(running, gateway)) == len(urls) and all(p > 0 for _, p in found.values()), within=60
        )
        victims = names()
        if away == "killed":
            # One that does not forget what it has taken over; servers take long to start, so one that the seed chooses.
            victims = random.sample([name for name, url in urls.items() if connect(url).capabilities.durable], 1)
        for name in victims:
            before = counted(running, gateway)
            AWAY[away](servers[name])
            eventually(partial(goes_on, running, gateway, name, before), within=60, what=f"all but {name} go on")
            revive(servers[name])
        until(file).touch()
        running.wait_for("app", "stopped")
        running.wait_published(within=90)
        counts = counted(running, gateway)
        assert running.terminate() == 0
    for name in names():
        accepted, published = counts[name]
        assert accepted == published
        (frames,) = received([servers[name].url()], topic_of(gateway, name), accepted)
        account = Account(frames)
        assert [event["value"] for event in account.events] == [float(number) for number in range(accepted)]
        assert account.dropped == []


def test_an_agent_whose_brokers_are_all_silent_stops_in_time(servers: Servers, gateway: str, tmp_path: Path) -> None:
    """Guarantee: brokers that answer nothing hold up the end together, not one after the other."""
    file = tmp_path / "gateway.toml"
    brokers = {name: servers[name] for name in names()}
    urls = {name: server.proxied_url() for name, server in brokers.items()}
    write_configuration(file, gateway, urls, channels={name: name for name in names()})
    for server in brokers.values():
        server.proxy.hang()
    with agent(file, stop_within=1) as running:
        eventually(lambda: len(found := counted(running, gateway)) == len(urls) and all(a > 0 for a, _ in found.values()))
        assert running.terminate(within=10) == 0
    assert "does not take frames" not in running.log.read_text(), "that it was closed is no fault of a broker"


class Ordering:
    """The other end of a gateway's commands: gives orders, and keeps what is told of them."""

    def __init__(self, broker: Broker, gateway: str) -> None:
        self._gateway = gateway
        self._publisher = broker.publisher()
        self._states: dict[str, list[str]] = {}
        # As the master does: it reads before it sends.
        broker.keep([results_topic(gateway)], group=MASTER)
        broker.keep([commands_topic(gateway)], group=gateway)
        self._reader = subscribe(broker, [results_topic(gateway)], group=MASTER, start="beginning")

    def order(self, *numbers: int) -> None:
        now = wall_clock()
        orders = [Command(f"c-{n}", self._gateway, "fan-1", "on", "{}", "test", now, now + 120_000_000) for n in numbers]
        publish_patiently(
            self._publisher, [Message(commands_topic(self._gateway), one.device, encode_command(one)) for one in orders]
        )

    def all_done(self, count: int) -> bool:
        """Whether every command so far has reached its end, step by step."""
        deliveries = poll_patiently(self._reader)
        for delivery in deliveries:
            state = decode_command_state(delivery.value)
            steps = self._states.setdefault(state.id, [])
            if state.state not in steps:
                steps.append(state.state)
        acknowledge_or_again(self._reader, deliveries)
        return len(self._states) == count and all(steps[-1] == "done" for steps in self._states.values())

    @property
    def steps(self) -> set[tuple[str, ...]]:
        return {tuple(steps) for steps in self._states.values()}

    def close(self) -> None:
        self._publisher.close()
        self._reader.close()


@pytest.mark.parametrize("name", names())
def test_commands_are_executed_once_and_told_of_though_their_broker_dies(
    name: str, servers: Servers, gateway: str, tmp_path: Path
) -> None:
    """Guarantee: at most once, and with a broker that keeps what it has taken over, exactly once."""
    server = servers[name]
    broker = connect(server.url())
    file, executed = tmp_path / "gateway.toml", tmp_path / "executed"
    transports = {"events": f"local:{tmp_path}/events", "orders": server.proxied_url()}
    driver = "tests.gateway_agent.probes:Actuator"
    write_configuration(file, gateway, transports, channels={}, driver=driver, commands="orders")
    with closing(Ordering(broker, gateway)) as ordering, agent(file, environment={"EXECUTED": str(executed)}) as running:
        running.wait_for("app", "running")
        ordering.order(*range(5))
        eventually(lambda: ordering.all_done(5), within=60, what="five commands are done")
        ordering.order(*range(3, 10))
        if broker.capabilities.durable:
            server.process.kill()
            time.sleep(0.5)
        else:
            server.proxy.cut()
            time.sleep(1.0)
        revive(server)
        ordering.order(*range(8, 15))
        eventually(lambda: ordering.all_done(15), within=90, what="all commands are done")
        assert running.terminate() == 0
    assert sorted(executed.read_text().split("\n")) == sorted(["", *(f"c-{number} on" for number in range(15))])
    assert ordering.steps == {("accepted", "started", "done")}
