"""Leases and registry together, over a real database, with clocks of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from master.clock import Clock
from master.errors import NotRegistered, StaleEpoch
from master.leases import Terms
from master.registry import Registry
from master.selection import Selection
from master.store import fleet, topics
from master.store.database import Database
from schemas import rpc
from tests.master.gateways import OUTBOX, registration


class Times:
    """Two clocks one can set."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.wall_time = 1_700_000_000_000_000

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.wall_time)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall_time += round(seconds * 1e6)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'master.sqlite'}")
    yield database
    database.close()


def make(database: Database, times: Times) -> Registry:
    return Registry(database, Terms(5.0, 8.0, 15.0), times.clock)


def beat(registry: Registry, epoch: int = 1, *devices: str) -> None:
    seen = tuple(rpc.DeviceSeen(device, "pumps", ("pressure",)) for device in devices)
    registry.heartbeat(rpc.Heartbeat("g", epoch, 0, (rpc.ApplicationStatus("pumps", "running"),), seen, OUTBOX))


def state(database: Database) -> tuple[str, bool]:
    """State of the gateway, and whether its channels are available."""
    with database.read() as connection:
        gateway = fleet.gateway(connection, "g")
        assert gateway is not None
        return gateway.state, topics.channels(connection, Selection()).items[0].available


def pass_time(registry: Registry, times: Times, seconds: int) -> list[tuple[str, str]]:
    found = []
    for _ in range(seconds):
        times.advance(1.0)
        found += [(change.before, change.after) for change in registry.sweep()]
    return found


def test_channels_are_unavailable_while_their_gateway_is_lost(database: Database, times: Times) -> None:
    registry = make(database, times)
    registry.register(registration("g", "local:x"), actor="test")
    beat(registry)
    assert pass_time(registry, times, 7) == []
    assert pass_time(registry, times, 1) == [("online", "suspect")]
    assert state(database) == ("suspect", True)
    assert pass_time(registry, times, 7) == [("suspect", "lost")]
    assert state(database) == ("lost", False)
    assert registry.counts() == {"online": 0, "suspect": 0, "lost": 1}
    beat(registry)
    assert state(database) == ("online", True)


def test_steps_of_the_wall_clock_end_no_lease(database: Database, times: Times) -> None:
    registry = make(database, times)
    registry.register(registration("g", "local:x"), actor="test")
    for step in (86_400_000_000, -10 * 86_400_000_000):
        times.wall_time += step
        assert pass_time(registry, times, 4) == []
        beat(registry)
    assert state(database) == ("online", True)


def test_after_a_restart_a_gateway_is_lost_only_after_one_full_lease(database: Database, times: Times) -> None:
    registry = make(database, times)
    registry.register(registration("g", "local:x"), actor="test")
    pass_time(registry, times, 7)
    times.advance(3_600)
    registry = make(database, times)
    with pytest.raises(NotRegistered):
        beat(registry)
    assert pass_time(registry, times, 14) == [("online", "suspect")]
    assert pass_time(registry, times, 1) == [("suspect", "lost")]


def test_the_epoch_outlives_a_restart(database: Database, times: Times) -> None:
    make(database, times).register(registration("g", "local:x", epoch=7), actor="test")
    registry = make(database, times)
    with pytest.raises(StaleEpoch) as stale:
        registry.register(registration("g", "local:x", epoch=6), actor="test")
    assert stale.value.current == 7
    registry.register(registration("g", "local:x", epoch=7), actor="test")


def test_what_heartbeats_renew_is_stored_by_the_next_sweep(database: Database, times: Times) -> None:
    registry = make(database, times)
    registry.register(registration("g", "local:x"), actor="test")
    beat(registry)
    pass_time(registry, times, 3)
    beat(registry)
    pass_time(registry, times, 1)
    with database.read() as connection:
        gateway = fleet.gateway(connection, "g")
    assert gateway is not None
    assert gateway.seen_time == times.wall_time - 1_000_000
    assert gateway.lease_until - gateway.seen_time == 15_000_000
    assert gateway.outbox == OUTBOX


def test_a_failed_write_changes_no_lease(database: Database, times: Times, tmp_path: Path) -> None:
    """What could not be stored is due again."""
    import sqlite3

    registry = make(database, times)
    registry.register(registration("g", "local:x"), actor="test")
    pass_time(registry, times, 7)
    times.advance(1.0)
    other = sqlite3.connect(tmp_path / "master.sqlite", isolation_level=None)
    other.execute("ALTER TABLE changes RENAME TO elsewhere")
    with pytest.raises(Exception, match="changes"):
        registry.sweep()
    assert registry.counts()["online"] == 1
    other.execute("ALTER TABLE elsewhere RENAME TO changes")
    other.close()
    assert [change.after for change in registry.sweep()] == ["suspect"]
    assert state(database)[0] == "suspect"


def test_a_thousand_devices_are_stored_once(database: Database, times: Times) -> None:
    registry = make(database, times)
    registry.register(registration("g", "local:x"), actor="test")
    names = [f"d{number}" for number in range(1_000)]
    beat(registry, 1, *names)
    for _ in range(20):
        beat(registry, 1, *names)
    with database.read() as connection:
        from master.store.devices import devices

        assert len(devices(connection, Selection()).items) == 1_000
        entries = connection.exec_driver_sql("SELECT count(*) FROM audit WHERE action = 'see'").scalar_one()
    assert entries == 1
