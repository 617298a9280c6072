"""A channel that moves from one real broker to the next, round all that have a server, while events flow.

Read one broker after the other in the order of the moves, it is all there, once, in the order in which it was accepted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gateway_agent.kit import Account, AgentProcess, agent, eventually
from tests.gateway_agent.on_brokers import identities, received, topic_of, until, write_configuration
from tests.servers.broker_server import Servers
from tests.servers.every import names

pytestmark = pytest.mark.slow

CHANNEL = "moving"


class Gateway:
    """With one channel, on one transport after the other, in an order that the seed chooses."""

    def __init__(self, servers: Servers, file: Path) -> None:
        self.order = random.sample(names(), len(names()))
        self._servers = servers
        self._file = file
        self._gateway = f"gw-{uuid4().hex[:10]}"
        self._topic = topic_of(self._gateway, CHANNEL)
        self._urls = {name: servers[name].proxied_url() for name in self.order}

    @contextmanager
    def publishing_to(self, name: str) -> Iterator[AgentProcess]:
        write_configuration(self._file, self._gateway, self._urls, channels={CHANNEL: name})
        with agent(self._file) as running:
            running.wait_for("app", "running")
            yield running

    def counted(self, running: AgentProcess) -> tuple[int, int]:
        """Events accepted and published so far, on all brokers together."""
        status = eventually(running.status, what="a status")
        found = status["topics"].get(self._topic, {"accepted": 0, "published": 0})
        return found["accepted"], found["published"]

    def wait_until_it_goes_on(self, running: AgentProcess, name: str) -> None:
        """Until all that there is to publish now, and more, is."""
        goal = self.counted(running)[0] + 20
        eventually(lambda: self.counted(running)[1] >= goal, within=90, what=f"on {name} of {self.order} it goes on")

    def wait_until_it_piles_up(self, running: AgentProcess) -> int:
        """Until events wait; how many are published."""
        goal = self.counted(running)[0] + 30
        accepted, published = eventually(
            lambda: found if (found := self.counted(running))[0] >= goal else None, what="events are accepted"
        )
        assert published <= accepted - 20
        return int(published)

    def finish(self, running: AgentProcess) -> None:
        """Publish the rest, and look at what all brokers have."""
        until(self._file).touch()
        running.wait_for("app", "stopped")
        running.wait_published(within=90)
        accepted, published = self.counted(running)
        assert accepted == published
        assert running.terminate() == 0
        found = received([self._servers[name].url() for name in self.order], self._topic, accepted)
        account = Account([frame for frames in found for frame in frames])
        assert [event["value"] for event in account.events] == [float(number) for number in range(accepted)], self.order
        assert account.dropped == []
        by_broker = [identities(frames) for frames in found]
        assert all(by_broker), "each has some"
        assert sum(map(len, by_broker)) == len(set().union(*by_broker)), "and what one has, no other has"


@pytest.fixture
def gateway(servers: Servers, tmp_path: Path) -> Gateway:
    return Gateway(servers, tmp_path / "gateway.toml")


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_channel_moves_when_its_agent_is_started_again(end: str, gateway: Gateway) -> None:
    """Guarantee: nothing lost, nothing twice, and the order over the old broker and then the new is that of acceptance."""
    for name in gateway.order:
        with gateway.publishing_to(name) as running:
            gateway.wait_until_it_goes_on(running, name)
            if name == gateway.order[-1]:
                gateway.finish(running)
            elif end == "stopped":
                assert running.terminate() == 0
            else:
                running.kill()


def test_a_channel_moves_away_from_a_broker_that_cannot_be_reached_and_keeps_its_order(
    gateway: Gateway, servers: Servers
) -> None:
    """Guarantee: what comes waits until the old broker has taken what is its own, through SIGKILL as well."""
    for old, new in zip(gateway.order, gateway.order[1:], strict=False):
        server = servers[old]
        with gateway.publishing_to(old) as running:
            gateway.wait_until_it_goes_on(running, old)
            server.proxy.cut()
            gateway.wait_until_it_piles_up(running)
            running.kill()
        for _ in range(2):
            with gateway.publishing_to(new) as running:
                published = gateway.counted(running)[1]
                assert gateway.wait_until_it_piles_up(running) == published, "the new broker has got nothing"
                running.kill()
        server.proxy.restore()
    with gateway.publishing_to(new) as running:
        gateway.wait_until_it_goes_on(running, new)
        gateway.finish(running)
