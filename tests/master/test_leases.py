"""A gateway's state is told by its heartbeats alone, whatever clocks and pauses do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.leases import Change, Leases, Terms
from schemas.errors import ConfigurationError

TERMS = Terms(heartbeat=5.0, suspect=8.0, lost=15.0)


def step(leases: Leases, start: float, end: float, *, by: float = 1.0) -> list[Change]:
    """Look every ``by`` seconds, storing what changes, as the sweep does."""
    found: list[Change] = []
    now = start
    while now < end:
        now = min(end, now + by)
        due = leases.due(now=now)
        leases.settle(due)
        found += due
    return found


def test_a_gateway_without_heartbeats_becomes_suspect_then_lost() -> None:
    leases = Leases(TERMS, now=100.0)
    leases.renew("g", now=100.0)
    assert step(leases, 100.0, 107.9) == []
    assert step(leases, 107.9, 108.0) == [Change("g", "online", "suspect")]
    assert step(leases, 108.0, 114.9) == []
    assert step(leases, 114.9, 115.0) == [Change("g", "suspect", "lost")]
    assert step(leases, 115.0, 200.0) == []


def test_a_heartbeat_brings_a_gateway_back_from_any_state() -> None:
    leases = Leases(TERMS, now=0.0)
    leases.renew("g", now=0.0)
    step(leases, 0.0, 9.0)
    assert leases.renew("g", now=9.0) == "suspect"
    assert leases.state("g") == "online"
    step(leases, 9.0, 30.0)
    assert leases.renew("g", now=30.0) == "lost"
    assert leases.state("g") == "online"


def test_a_change_comes_again_until_it_was_stored() -> None:
    leases = Leases(TERMS, now=0.0)
    leases.renew("g", now=0.0)
    step(leases, 0.0, 7.0)
    first = leases.due(now=8.0)
    assert leases.due(now=9.0) == first == [Change("g", "online", "suspect")]
    leases.settle(first)
    assert leases.due(now=10.0) == []


def test_after_a_restart_every_gateway_has_one_full_lease() -> None:
    leases = Leases(TERMS, now=1_000.0)
    leases.restore({"online": "online", "suspect": "suspect", "lost": "lost"}, now=1_000.0)
    assert step(leases, 1_000.0, 1_014.0) == [Change("online", "online", "suspect")]
    lost = step(leases, 1_014.0, 1_015.0)
    assert {change.gateway for change in lost} == {"online", "suspect"}
    assert {change.after for change in lost} == {"lost"}


def test_time_in_which_the_master_did_not_look_is_not_held_against_gateways() -> None:
    leases = Leases(TERMS, now=0.0)
    leases.renew("g", now=0.0)
    step(leases, 0.0, 6.0)
    assert leases.due(now=10_000.0) == [], "the master was stopped; the heartbeats wait in its sockets"
    assert step(leases, 10_000.0, 10_002.0) == [Change("g", "online", "suspect")], "six seconds before, two after"


def test_a_forgotten_gateway_has_no_state() -> None:
    leases = Leases(TERMS, now=0.0)
    leases.renew("g", now=0.0)
    leases.forget("g")
    assert leases.state("g") is None
    assert step(leases, 0.0, 100.0) == []


def test_a_lease_shorter_than_its_heartbeat_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="heartbeat < suspect < lease"):
        Terms.of(heartbeat=5.0, lease=4.0)


@given(
    beats=st.lists(st.floats(0.1, 30.0), min_size=1, max_size=20),
    look=st.floats(0.1, 4.9),
)
def test_what_is_said_is_what_the_age_of_the_last_heartbeat_says(beats: list[float], look: float) -> None:
    """While the master looks at least once a heartbeat, the state is a function of the age alone."""
    leases = Leases(TERMS, now=0.0)
    leases.renew("g", now=0.0)
    now = 0.0
    for pause in beats:
        end = now + pause
        looked = now
        while looked + look < end:
            looked += look
            leases.settle(leases.due(now=looked))
            age = looked - now
            expected = "online" if age < TERMS.suspect else "suspect" if age < TERMS.lost else "lost"
            assert leases.state("g") == expected
        now = end
        leases.settle(leases.due(now=now))
        leases.renew("g", now=now)
        assert leases.state("g") == "online"
