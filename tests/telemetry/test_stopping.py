"""A process that is told to stop stops, whatever it was doing at that moment."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from telemetry.stopping import set_by_signals


@pytest.fixture(autouse=True)
def handlers_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_wait_stops_as_well(number: signal.Signals) -> None:
    stopping = set_by_signals()
    # As `wait` does for a moment, at its beginning and its end.
    with stopping._cond:
        signal.raise_signal(number)
    assert stopping.wait(10)


def test_a_signal_before_wait_is_not_lost() -> None:
    stopping = set_by_signals()
    signal.raise_signal(signal.SIGTERM)
    assert stopping.wait(10)
    signal.raise_signal(signal.SIGTERM)
    assert stopping.is_set()
