"""Configurations that are wrong are refused with the file, the line, the field, and what was probably meant."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_agent.__main__ import main
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.gateway_agent.kit import run_to_its_end

GOOD = """\
[gateway]
id = "gw-1"
site = "plant"
data_dir = "data"

[transports.main]
url = "local:broker"

[applications.count]
driver = "tests.gateway_agent.probes:Counter"
settings = { count = 3 }
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("site =", "siet ="), "gateway.toml:3: gateway.siet: unknown field; did you mean 'site'?"),
        (('"gw-1"', '"gw.1"'), "gateway.toml:2: gateway.id: 'gw.1' cannot name a gateway"),
        (('"local:broker"', '"lokal:broker"'), "gateway.toml:7: transports.main.url"),
        (("settings =", 'transport = "mian"\nsettings ='), "gateway.toml:11: applications.count.transport: no transport 'mian'"),
        (('"gw-1"', f'"{"g" * 195}"'), "gateway.toml:2: gateway.id: 'ggg"),
        (
            ("settings =", 'restart = { hung_after = "500ms" }\nsettings ='),
            "gateway.toml:11: applications.count.restart.hung_after: 0.5 s are too few",
        ),
        (("[transports.main]", '[outbox]\nmax_bytes = "1MB"\n[transports.main]'), "gateway.toml:7: outbox.max_bytes"),
        (("[transports.main]", '[master]\nurl = "x"\n[transports.main]'), "gateway.toml:7: master.url: 'x' is no URL"),
        (("[applications.count]", '[applications."a b"]'), "'a b' cannot name a application"),
        (("driver =", "drvier ="), "gateway.toml:10: applications.count.drvier: unknown field; did you mean 'driver'?"),
        (('"plant"', '"${NO_SUCH_VARIABLE}"'), "gateway.toml:3: gateway.site: the variable NO_SUCH_VARIABLE is not set"),
        (("[gateway]", "[gateway"), "not TOML"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    file = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigurationError) as refused:
        load_config(file)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("count = 3", "cuont = 3"), "gateway.toml:11: applications.count.settings.cuont: unknown field; did you mean 'count'?"),
        ((":Counter", ":Conuter"), "gateway.toml:10: applications.count.driver"),
        (("tests.gateway_agent.probes:Counter", "replya"), "Try: did you mean 'replay'?"),
        (
            ("settings =", 'channels.nubmer.grouping = "single"\nsettings ='),
            "applications.count.channels.nubmer: the driver has no channel 'nubmer'",
        ),
        (("settings =", 'channels.number.schema = "Raeding"\nsettings ='), "Try: did you mean 'Reading'?"),
        (
            ("settings =", 'channels.number.grouping = "single"\nsettings ='),
            "gateway.toml:11: applications.count.channels.number.grouping: a topic per device: 'room 1' cannot name a device",
        ),
        (("settings =", 'channels.number.schema = "none.avsc"\nsettings ='), "none.avsc: no such file"),
    ],
)
def test_check_finds_what_does_not_fit_a_driver(
    tmp_path: Path,
    change: tuple[str, str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.gateway_agent.probes.Counter.devices", lambda _: ["room-2", "room 1"])
    file = write(tmp_path, GOOD.replace(*change))
    assert main(["check", str(file)]) == 1
    assert expected in capsys.readouterr().err


REPLAY = """
[applications.wsn]
driver = "replay"
[applications.wsn.settings]
file = "{file}"
device = "{device}"
time = {{ column = "t", format = "seconds" }}
channels.v = {{ value = "v" }}
"""


@pytest.mark.parametrize(
    ("file", "device", "expected"),
    [
        ("nope.csv", "{d}", "gateway.toml:16: applications.wsn.settings.file: nope.csv: cannot be read: No such file"),
        ("/", "{d}", "gateway.toml:16: applications.wsn.settings.file: /: cannot be read: Is a directory"),
        ("pipe", "{d}", "gateway.toml:16: applications.wsn.settings.file: pipe: cannot be read: Illegal seek"),
        ("good.csv", "{e}", "gateway.toml:17: applications.wsn.settings.device: the recording has no column 'e'"),
        ("bad.csv", "{d}", "gateway.toml:19: applications.wsn.settings.channels.v.value: the recording has no column 'v'"),
    ],
)
def test_what_a_driver_finds_wrong_has_its_place_and_the_other_applications_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str, device: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text("t,d,v\n")
    (tmp_path / "bad.csv").write_text("t,d,w\n")
    os.mkfifo(tmp_path / "pipe")
    last = GOOD[GOOD.index("[applications") :].replace(".count]", ".last]")
    configuration = write(tmp_path, GOOD + REPLAY.format(file=file, device=device) + last)
    assert main(["check", str(configuration)]) == 1
    shown = capsys.readouterr()
    assert expected in shown.err
    assert "✓ last" in shown.out


def test_a_driver_whose_own_code_fails_does_not_end_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.gateway_agent.probes import Counter

    monkeypatch.setattr(Counter, "devices", lambda _: 1 / 0)
    assert main(["check", str(write(tmp_path, GOOD))]) == 1
    expected = "gateway.toml:11: applications.count.settings: the driver cannot be made: ZeroDivisionError"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"data"', '"file/data"'), "gateway.toml:4: gateway.data_dir: {folder}/file is no folder"),
        (
            ("[transports.main]", '[status]\nurl_file = "no/url"\n[transports.main]'),
            "gateway.toml:7: status.url_file: {folder}/no is",
        ),
    ],
)
def test_check_finds_folders_that_cannot_be(
    tmp_path: Path, change: tuple[str, str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["check", str(write(tmp_path, GOOD.replace(*change)))]) == 1
    shown = capsys.readouterr()
    assert expected.format(folder=tmp_path) in shown.err
    assert "✓ count" in shown.out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"data"', '"file/data"'), "gateway.toml:4: gateway.data_dir: {folder}/file/data: Not a directory"),
        (
            ("[transports.main]", "[status]\nport = {port}\n[transports.main]"),
            "gateway.toml:7: status.port: 127.0.0.1:{port}: Address",
        ),
        (
            ("[transports.main]", '[status]\nurl_file = "no/url"\n[transports.main]'),
            "gateway.toml:7: status.url_file: {folder}/no/url: No such file or directory",
        ),
    ],
)
def test_what_the_system_refuses_to_an_agent_that_starts_is_an_error_with_its_place(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    """In a process of its own, which ends with it."""
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = write(tmp_path, GOOD.replace(change[0], change[1].replace("{port}", str(port))))
        ended = run_to_its_end(file)
    assert ended.returncode == 1
    assert expected.format(folder=tmp_path, port=port) in ended.stderr
    assert "Try: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_of_a_good_configuration_names_the_topics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(write(tmp_path, GOOD))]) == 0
    assert "✓ count: plant.count.number" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_a_secret_in_a_url_is_not_what_is_shown_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "very-secret")
    loaded = load_config(write(tmp_path, GOOD.replace("local:broker", "local:${PLACE}")))
    assert loaded.config.transports["main"].url == "local:very-secret"
    assert loaded.written_urls == {"main": "local:${PLACE}"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("amqp://gw:hunter2@host/iot", False),
        ("amqp://gw:${PLACE:-hunter2}@host/iot", False),
        ("${URL:-amqp://gw:hunter2@host/iot}", False),
        ("amqp://gw:${PLACE}@host/iot", True),
        ("amqp://${PLACE}:${PLACE}@${HOST:-localhost}:5672/iot", True),
        ("local:${DIR:-broker}", True),
    ],
)
def test_a_password_that_is_written_out_is_not_told_to_a_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, *, told: bool
) -> None:
    """A master could not use the URL without it, so the configuration is refused; without a master it may stand there."""
    monkeypatch.setenv("PLACE", "very-secret")
    text = GOOD.replace("local:broker", url)
    with_master = text + '[master]\nurl = "http://127.0.0.1:1"\n'
    if told:
        assert load_config(write(tmp_path, with_master)).written_urls == {"main": url}
        return
    with pytest.raises(ConfigurationError, match=r"gateway.toml:7: transports.main.url: holds a password") as refused:
        load_config(write(tmp_path, with_master))
    assert "hunter2" not in str(refused.value)
    assert load_config(write(tmp_path, text)).config.master is None


@pytest.mark.parametrize("driver", ["replay", "serial", "simulated"])
def test_init_prints_a_configuration_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str) -> None:
    assert main(["init", "--driver", driver]) == 0
    text = capsys.readouterr().out
    file = write(tmp_path, text)
    loaded = load_config(file)
    assert driver in {application.driver for application in loaded.config.applications.values()}
    commented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and "=" in line else line for line in text.splitlines()
    )
    assert "max_bytes" in commented


def test_init_of_an_unknown_driver_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--driver", "seriel"]) == 1
    assert "Try: one of replay, serial, simulated" in capsys.readouterr().err


def test_a_channel_may_have_a_schema_a_transport_and_topics_of_its_own(tmp_path: Path) -> None:
    from gateway_agent.host.messages import ChannelSpec, Hello
    from gateway_agent.wiring import describe, wire
    from schemas.registry import shipped_text

    text = GOOD + '[transports.other]\nurl = "local:other"\n[applications.count.channels.number]\n'
    text += 'transport = "other"\ngrouping = "single"\nwhen_full = "drop_oldest"\n'
    loaded = load_config(write(tmp_path, text))
    hello = Hello("1", (ChannelSpec("number", shipped_text("Reading"), "in"),), (), ())
    wiring = wire(loaded, "count", hello, loaded.brokers())
    route = wiring.route("number", "pump-7")
    assert (route.topic, route.transport, route.when_full) == ("plant.count.pump-7.number", "other", "drop_oldest")
    assert wiring.single == ("number",)
    (channel,) = describe(loaded, "count", hello).channels
    assert (channel.topic, channel.grouping, channel.transport) == ("plant.count.{device}.number", "single", "other")


@pytest.mark.slow
def test_the_test_command_prints_events_and_keeps_nothing(
    configuration: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configuration('[applications.count]\ndriver = "tests.gateway_agent.probes:Counter"\nsettings = { count = 3 }')
    assert main(["test", str(file), "--seconds", "20"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3
    assert '"topic": "site.count.number"' in lines[0]
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "broker").exists()
