"""The clock's steps are told from its drift."""

from __future__ import annotations

from gateway_agent.clock import ClockWatch, kernel_says_synchronised


class Clocks:
    def __init__(self) -> None:
        self.wall = 1_700_000_000_000_000_000
        self.monotonic = 5_000_000_000

    def watch(self) -> ClockWatch:
        return ClockWatch(wall=lambda: self.wall, monotonic=lambda: self.monotonic, synchronised=lambda: None)

    def pass_time(self, seconds: float, *, drift: float = 0.0) -> None:
        self.monotonic += int(seconds * 1e9)
        self.wall += int((seconds + drift) * 1e9)


def test_time_that_passes_is_no_step() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    for _ in range(100):
        clocks.pass_time(1.0, drift=0.0005)
        assert watch.look() == 0.0
    assert watch.state().steps == 0


def test_a_clock_that_is_set_has_stepped_by_that_much() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_time(1.0, drift=3600.0)
    assert round(watch.look(), 3) == 3600.0
    clocks.pass_time(1.0)
    assert watch.look() == 0.0
    clocks.pass_time(1.0, drift=-7.5)
    assert round(watch.look(), 3) == -7.5
    assert (watch.state().steps, round(watch.state().last_step, 3)) == (2, -7.5)


def test_the_kernel_can_be_asked() -> None:
    assert kernel_says_synchronised() in (True, False, None)
