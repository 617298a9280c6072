"""The rules that every driver keeps, as tests to inherit. They need pytest, and nothing else of the project's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from gateway_agent.find import find_driver, make_driver
from gateway_agent.testing.bench import Bench
from schemas.errors import ConfigurationError
from schemas.registry import SHIPPED

_AT: Final = "applications.it.settings"


class DriverRules:
    """Subclass it, name the driver, and give settings with which it emits something by itself.

    A driver that reads something with an end (``finite``) is also killed again and again while it reads, and must have
    emitted then what it emits undisturbed.
    """

    driver: ClassVar[str]
    finite: ClassVar[bool] = False
    #: Events to wait for before a driver without an end is stopped or killed.
    enough: ClassVar[int] = 3

    def settings(self, folder: Path) -> dict[str, Any]:
        """Settings that are right; ``folder`` is free to use. Asked anew for every test."""
        raise NotImplementedError

    def start(self, folder: Path) -> None:
        """Whatever the driver needs to have something to read, once its settings are made."""

    def test_settings_that_it_does_not_know_are_refused_by_their_path(self, tmp_path: Path) -> None:
        message = self._refusal({**self.settings(tmp_path), "no_such_setting": 1})
        assert f"{_AT}.no_such_setting: unknown field" in message

    def test_each_setting_that_is_missing_is_refused_by_its_name(self, tmp_path: Path) -> None:
        right = self.settings(tmp_path)
        for field in msgspec.structs.fields(find_driver(self.driver).Settings):
            if field.required:
                message = self._refusal({name: value for name, value in right.items() if name != field.encode_name})
                assert f"{_AT}: the field {field.encode_name!r} is missing" in message

    def test_each_setting_of_another_type_is_refused_by_its_path(self, tmp_path: Path) -> None:
        for name in (right := self.settings(tmp_path)):
            assert name in self._refusal({**right, name: {"no": {"such": "thing"}}})

    def test_the_names_of_channels_and_commands_are_declared_once(self, tmp_path: Path) -> None:
        driver = make_driver(find_driver(self.driver), self.settings(tmp_path), origin="x", application="it")
        for names in ([one.name for one in driver.channels], [one.name for one in driver.commands]):
            assert len(set(names)) == len(names)
        for channel in driver.channels:
            assert channel.schema in SHIPPED or channel.schema.endswith(".avsc") or channel.schema.startswith("{")

    def test_what_it_emits_fits_what_it_declares(self, tmp_path: Path) -> None:
        """In its own process: an undeclared channel or field ends that, and would show as a restart."""
        with Bench(tmp_path / "outbox", self.driver, self.settings(tmp_path)) as bench:
            self.start(tmp_path)
            self._wait_for_enough(bench)
            status = bench.status
            assert status.restarts == 0, status.detail
            assert status.hello is not None
            assert {event["channel"] for event in bench.events()} <= {channel.name for channel in status.hello.channels}

    def test_it_stops_within_seconds_when_asked(self, tmp_path: Path) -> None:
        """It returns by itself: a process that had to be killed shows as failed."""
        with Bench(tmp_path / "outbox", self.driver, self.settings(tmp_path)) as bench:
            bench.until(lambda: bench.status.state in ("running", "stopped"), what="a running driver")
            stopped = bench.stop(within=10.0)
            assert (stopped.state, stopped.restarts) == ("stopped", 0), stopped.detail

    def test_it_comes_back_after_a_crash(self, tmp_path: Path) -> None:
        with Bench(tmp_path / "outbox", self.driver, self.settings(tmp_path)) as bench:
            bench.until(lambda: bench.status.state in ("running", "stopped"), what="a running driver")
            bench.kill()
            self.start(tmp_path)
            self._wait_for_enough(bench)

    def test_commands_that_it_does_not_know_are_answered_by_a_clear_error(self, tmp_path: Path) -> None:
        driver = make_driver(find_driver(self.driver), self.settings(tmp_path), origin="x", application="it")
        if not driver.commands:
            return
        with Bench(tmp_path / "outbox", self.driver, self.settings(tmp_path)) as bench:
            device = next(iter(driver.devices()), "device")
            unknown = bench.execute(device, "no-such-command")
            assert unknown.step == "failed"
            assert "no-such-command" in unknown.detail
            for command in driver.commands:
                nobody = bench.execute("no-such-device", command.name)
                assert nobody.step == "failed", f"{command.name} of no-such-device: {nobody.detail}"
            assert bench.status.restarts == 0

    def test_what_has_an_end_is_read_to_it_exactly_once_through_crashes(self, tmp_path: Path) -> None:
        if not self.finite:
            return
        settings = self.settings(tmp_path)
        with Bench(tmp_path / "undisturbed", self.driver, settings) as bench:
            bench.until(lambda: bench.status.state == "stopped", within=60.0, what="the end")
            undisturbed = [_essence(event) for event in bench.events()]
        assert undisturbed
        found: list[Any] = []
        with Bench(tmp_path / "disturbed", self.driver, settings) as bench:
            for killed in range(1, 6):
                # Later and later, so that it is not always the same moment that is hit.
                wanted = len(undisturbed) * killed // 8
                bench.until(lambda wanted=wanted: len(bench.events()) >= wanted, within=60.0, what="progress")  # type: ignore[misc]
                bench.kill()
            bench.until(lambda: bench.status.state == "stopped", within=60.0, what="the end")
            found = [_essence(event) for event in bench.events()]
        for channel in {channel for channel, *_ in undisturbed}:
            assert [one for one in found if one[0] == channel] == [one for one in undisturbed if one[0] == channel]

    def _wait_for_enough(self, bench: Bench) -> None:
        bench.until(
            lambda: bench.status.state == "stopped" or len(bench.events()) >= self.enough,
            within=60.0,
            what=f"{self.enough} events or the end",
        )
        assert bench.events(), "it emitted nothing"

    def _refusal(self, settings: dict[str, Any]) -> str:
        try:
            make_driver(find_driver(self.driver), settings, origin="gateway.toml", application="it")
        except ConfigurationError as error:
            return str(error)
        raise AssertionError(f"settings were not refused: {settings}")


def _essence(event: dict[str, Any]) -> tuple[Any, ...]:
    """An event without what the gateway adds."""
    rest = {name: value for name, value in event.items() if name not in ("gateway", "epoch", "seq", "gateway_time", "channel")}
    return (event["channel"], event["device"], sorted(rest.items()))
