"""Leases: whether a gateway is there, told by its heartbeats. Pure logic; the caller brings the clock.

A lease is measured on the master's own monotonic clock (seconds), so steps of a wall clock neither
end nor prolong one. Three rules keep the master from blaming gateways for its own pauses: after a
restart every gateway begins a full lease; time in which the master did not look (it was stopped,
swapped out, or busy) does not count; and a state changes only when the change was stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.errors import ConfigurationError

State = Literal["online", "suspect", "lost"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How often a gateway renews, and after how long without it is suspect, then lost. Seconds."""

    heartbeat: float = 5.0
    suspect: float = 8.0
    lost: float = 15.0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat < self.suspect < self.lost:
            raise ConfigurationError(
                f"heartbeat {self.heartbeat:g} s, suspect {self.suspect:g} s, lost {self.lost:g} s do not rise",
                remedy="a lease must outlast its heartbeat: heartbeat < suspect < lease",
            )

    @classmethod
    def of(cls, heartbeat: float, lease: float) -> Terms:
        """Suspect a third of the way from one missed heartbeat to the end of the lease. Raises `ConfigurationError`."""
        return cls(heartbeat, heartbeat + (lease - heartbeat) / 3, lease)


@dataclass(frozen=True, slots=True)
class Change:
    """A gateway's state has to change."""

    gateway: str
    before: State
    after: State


@dataclass(slots=True)
class _Lease:
    renewed: float
    state: State


class Leases:
    """The leases of all gateways. Not safe for threads; ``now`` is seconds on one monotonic clock."""

    def __init__(self, terms: Terms, *, now: float) -> None:
        self.terms = terms
        self._leases: dict[str, _Lease] = {}
        self._looked = now

    def restore(self, states: Mapping[str, State], *, now: float) -> None:
        """Take over what was stored before a restart: a full lease for every gateway that was not lost."""
        for gateway, state in states.items():
            self._leases[gateway] = _Lease(now, state)

    def renew(self, gateway: str, *, now: float) -> State | None:
        """Begin a new lease and return the state before it, None for a gateway that had none."""
        lease = self._leases.get(gateway)
        self._leases[gateway] = _Lease(now, "online")
        return lease.state if lease else None

    def forget(self, gateway: str) -> None:
        self._leases.pop(gateway, None)

    def state(self, gateway: str) -> State | None:
        lease = self._leases.get(gateway)
        return lease.state if lease else None

    def due(self, *, now: float) -> list[Change]:
        """The changes that time has brought. They come again until `settle` is told of them."""
        self._discount_pause(now)
        changes = []
        for gateway, lease in self._leases.items():
            state = self._judge(lease, now)
            if state != lease.state:
                changes.append(Change(gateway, lease.state, state))
        return changes

    def settle(self, changes: Iterable[Change]) -> None:
        """These changes have been stored."""
        for change in changes:
            lease = self._leases.get(change.gateway)
            if lease is not None:
                lease.state = change.after

    def counts(self) -> dict[State, int]:
        """How many gateways are in each state."""
        counts: dict[State, int] = {"online": 0, "suspect": 0, "lost": 0}
        for lease in self._leases.values():
            counts[lease.state] += 1
        return counts

    def _judge(self, lease: _Lease, now: float) -> State:
        age = now - lease.renewed
        if lease.state == "lost" or age >= self.terms.lost:
            return "lost"
        if age >= self.terms.suspect or lease.state == "suspect":
            return "suspect"
        return "online"

    def _discount_pause(self, now: float) -> None:
        pause = now - self._looked
        self._looked = now
        if pause <= self.terms.heartbeat:
            return
        for lease in self._leases.values():
            lease.renewed = min(now, lease.renewed + pause)
