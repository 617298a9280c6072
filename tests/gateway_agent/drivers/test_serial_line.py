"""The serial driver on a real pseudo-terminal: bytes cut anywhere, ports that come and go, commands to the device."""

from __future__ import annotations

import contextlib
import os
import random
import select
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from gateway_agent.driver import Command, CommandFailed
from gateway_agent.drivers.serial.settings import WriteArguments
from schemas.errors import IoTCloudError, SchemaError
from tests.gateway_agent.drivers.context import KeepingContext, eventually
from tests.gateway_agent.drivers.kit import CAPTURES, make, refusal
from tests.gateway_agent.drivers.test_serial_framing import capture, nmea, spans


class Device:
    """A device on a pseudo-terminal that is found under a fixed name, as udev makes one."""

    def __init__(self, link: Path) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self._link = link
        link.symlink_to(os.ttyname(slave))
        # Held open, so that nothing is hung up before the driver comes.
        self._slave = slave

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data) :]

    def unplug(self) -> None:
        self._link.unlink()
        os.close(self._slave)
        os.close(self.master)


@contextlib.contextmanager
def running(toml: str, context: KeepingContext | None = None) -> Iterator[tuple[Any, KeepingContext]]:
    driver, context = make("serial", toml), context or KeepingContext()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            driver.run(context)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield driver, context
    finally:
        context.stop()
        thread.join(30)
        assert not thread.is_alive()
        assert failed == []


def settings(port: Path, more: str = 'framing = ["nmea", "ubx"]\nidle_gap = "50ms"') -> str:
    return f'port = "{port}"\ndevice = "ublox"\n{more}\n'


def opened(context: KeepingContext, times: int = 1) -> None:
    """Wait until the driver has the port: what is sent before it opens is discarded, as by any reader."""
    eventually(lambda: sum("is open" in str(call) for call in context.log_calls) >= times)


def on_channel(context: KeepingContext, channel: str) -> list[dict[str, Any]]:
    return [dict(fields) for _, name, _, fields in list(context.emitted) if name == channel]


def test_a_captured_line_becomes_its_positions_and_sentences(tmp_path: Path) -> None:
    """Cut anywhere by the writer and by the operating system: 39 positions, 8 sentences, in order, nothing skipped."""
    device = Device(tmp_path / "gnss")
    generator = random.Random(7)
    with running(settings(tmp_path / "gnss")) as (_, context):
        opened(context)
        data = capture("MIXED")
        while data:
            count = generator.randint(1, 400)
            device.send(data[:count])
            data = data[count:]
        eventually(lambda: len(on_channel(context, "position")) == 39)
    assert on_channel(context, "sentences")[0]["value"] == "$GNTXT,01,01,02,u-blox AG - www.u-blox.com*4E"
    assert len(on_channel(context, "sentences")) == 8
    assert context.rejected == []
    device.unplug()


@pytest.mark.parametrize(
    ("name", "positions", "rejected"),
    [
        ("BADCK2", 1, ("758", "532 bytes skipped: ubx: checksum is wrong")),
        ("BADHDR", 0, ("352", "100 bytes skipped: no frame begins")),
    ],
)
def test_a_damaged_capture_gives_what_is_whole(tmp_path: Path, name: str, positions: int, rejected: tuple[str, str]) -> None:
    """Of a u-blox receiver: a checksum, and a frame's first bytes, were changed."""
    device = Device(tmp_path / "gnss")
    with running(settings(tmp_path / "gnss", 'framing = ["nmea", "ubx"]')) as (_, context):
        opened(context)
        device.send(capture(name))
        eventually(lambda: context.rejected)
    assert len(on_channel(context, "position")) == positions
    ((where, reason),) = context.rejected
    assert where == f"{tmp_path}/gnss@{rejected[0]}"
    assert reason.startswith(rejected[1])
    device.unplug()


def test_a_sentence_that_says_nonsense_is_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    """With a right checksum: satellites that no schema holds, and a line longer than the broker takes."""

    def gga(satellites: str) -> bytes:
        return nmea(f"GPGGA,103607,5327.0,N,00214.4,W,1,{satellites},5.8,56.0,M,48.5,M,,")

    class Small(KeepingContext):
        def emit(self, device: str, channel: str, *, event_time: Any = None, **fields: Any) -> None:
            if channel == "sentences" and len(fields["value"]) > 200:
                raise SchemaError("too large")
            super().emit(device, channel, event_time=event_time, **fields)

    sent = [gga("99999999999"), nmea("GPTXT," + "x" * 300), gga("07")]
    device = Device(tmp_path / "gnss")
    with running(settings(tmp_path / "gnss"), Small()) as (_, context):
        opened(context)
        device.send(b"".join(sent))
        eventually(lambda: on_channel(context, "position"))
    assert [fields["satellites"] for fields in on_channel(context, "position")] == [7]
    assert context.rejected == [
        (f"{tmp_path}/gnss@0", "GGA: satellites '99999999999' is not a small number"),
        (f"{tmp_path}/gnss@{len(sent[0])}", "too large"),
    ]
    device.unplug()


def test_damage_is_reported_with_its_place_on_the_line(tmp_path: Path) -> None:
    data = bytearray(capture("MIXED"))
    begin, end = spans()[10]
    data[end - 1] ^= 1
    device = Device(tmp_path / "gnss")
    with running(settings(tmp_path / "gnss")) as (_, context):
        opened(context)
        device.send(bytes(data))
        eventually(lambda: context.rejected)
        eventually(lambda: len(on_channel(context, "position")) >= 38)
    assert context.rejected == [(f"{tmp_path}/gnss@{begin}", f"{end - begin} bytes skipped: ubx: checksum is wrong")]
    device.unplug()


def test_a_port_that_goes_and_comes_back_is_read_on_without_a_restart(tmp_path: Path) -> None:
    """What was cut by its going is rejected, and never joined to what comes from the new one."""
    link = tmp_path / "gnss"
    with running(settings(link)) as (_, context):
        for plugged in range(1, 4):
            device = Device(link)
            opened(context, plugged)
            device.send(nmea(f"GNTXT,{plugged}") + nmea("GNTXT,cut")[:7])
            eventually(lambda plugged=plugged: len(on_channel(context, "sentences")) == plugged)
            device.unplug()
        eventually(lambda: sum("is gone" in str(call) for call in context.log_calls) == 3)
    assert [fields["value"].partition("*")[0] for fields in on_channel(context, "sentences")] == [
        "$GNTXT,1",
        "$GNTXT,2",
        "$GNTXT,3",
    ]
    assert all("7 bytes skipped" in reason for _, reason in context.rejected)


def test_a_port_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    with running(settings(tmp_path / "gnss")) as (_, context):
        eventually(lambda: any("cannot be opened yet" in str(call) for call in context.log_calls))
        device = Device(tmp_path / "gnss")
        opened(context)
        device.send(nmea("GNTXT,01"))
        eventually(lambda: on_channel(context, "sentences"))
    device.unplug()


def test_lines_of_text_are_read(tmp_path: Path) -> None:
    device = Device(tmp_path / "meter")
    with running(settings(tmp_path / "meter", 'framing = ["line"]\ndelimiter = ";"')) as (_, context):
        opened(context)
        device.send("21.5 °C;22;\x01;".encode())
        eventually(lambda: len(on_channel(context, "lines")) == 2 and context.rejected)
    assert on_channel(context, "lines") == [{"value": "21.5 °C"}, {"value": "22"}]
    device.unplug()


def command(args: WriteArguments, *, device: str = "ublox", name: str = "write", within: float = 20.0) -> Command:
    return Command("c1", device, name, args, time.time_ns() // 1_000 + round(within * 1_000_000))


def test_commands_write_to_the_device(tmp_path: Path) -> None:
    device = Device(tmp_path / "gnss")
    with running(settings(tmp_path / "gnss")) as (driver, context):
        opened(context)
        assert driver.on_command(command(WriteArguments(hex="b562 0601 00"))) == {"written": 5}
        assert driver.on_command(command(WriteArguments(text="é\n"))) == {"written": 3}
        written = b"\xb5\x62\x06\x01\x00\xc3\xa9\n"
        arrived = b""
        while len(arrived) < len(written):
            arrived += os.read(device.master, 100)
        assert arrived == written
    device.unplug()


def test_a_command_that_the_device_does_not_take_in_time_has_failed_and_does_not_reach_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds up the line: a pty that nobody reads takes some kilobytes, a UART keeps them to itself."""
    device = Device(tmp_path / "gnss")
    with running(settings(tmp_path / "gnss")) as (driver, context):
        opened(context)
        with pytest.raises(IoTCloudError, match="were not taken in time"):
            driver.on_command(command(WriteArguments(hex="00" * 200_000), within=0.3))
        while select.select([device.master], [], [], 0.2)[0]:
            os.read(device.master, 65_536)
        with pytest.raises(IoTCloudError, match="were not taken in time"):
            driver.on_command(command(WriteArguments(hex="b562"), within=-1.0))
        discarded = threading.Event()
        monkeypatch.setattr(serial.Serial, "out_waiting", 2)
        monkeypatch.setattr(serial.Serial, "reset_output_buffer", lambda _: discarded.set())
        with pytest.raises(IoTCloudError, match="2 bytes were not sent in time"):
            driver.on_command(command(WriteArguments(hex="b562"), within=0.3))
        assert discarded.is_set()
    device.unplug()


@pytest.mark.parametrize("moment", ["open", "read"])
def test_a_port_that_vanishes_in_the_middle_of_a_call_comes_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The terminal's own calls then raise an error that is no OSError."""
    whole = getattr(serial.Serial, moment)
    failures = iter([termios.error(5, "Input/output error")])

    def vanishing(port: serial.Serial, *arguments: Any) -> Any:
        for failure in failures:
            raise failure
        return whole(port, *arguments)

    monkeypatch.setattr(serial.Serial, moment, vanishing)
    device = Device(tmp_path / "gnss")
    with running(settings(tmp_path / "gnss")) as (_, context):
        opened(context, 1 if moment == "open" else 2)
        device.send(nmea("GNTXT,01"))
        eventually(lambda: on_channel(context, "sentences"))
    assert any("Input/output error" in str(call) for call in context.log_calls)
    device.unplug()


def test_commands_that_cannot_be_executed_say_why(tmp_path: Path) -> None:
    with running(settings(tmp_path / "gnss")) as (driver, context):
        eventually(lambda: any("cannot be opened yet" in str(call) for call in context.log_calls))
        with pytest.raises(IoTCloudError, match="not connected"):
            driver.on_command(command(WriteArguments(text="x")))
        with pytest.raises(CommandFailed, match="either 'text' or 'hex'"):
            driver.on_command(command(WriteArguments()))
        with pytest.raises(CommandFailed, match="hex"):
            driver.on_command(command(WriteArguments(hex="b5x")))
        with pytest.raises(CommandFailed, match="no device 'other'"):
            driver.on_command(command(WriteArguments(text="x"), device="other"))
        with pytest.raises(CommandFailed, match="no command 'wipe'"):
            driver.on_command(command(WriteArguments(text="x"), name="wipe"))


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('device = "d"', "the field 'port' is missing"),
        ('port = "p"\ndevice = "d"\nframing = ["nmae"]', "framing"),
        ('port = "p"\ndevice = "d"\nframing = []', "framing"),
        ('port = "p"\ndevice = "d"\nbaud = "fast"', "settings.baud"),
        ('port = "p"\ndevice = "d"\nbuad = 9600', "did you mean 'baud'?"),
        ('port = "p"\ndevice = "d"\nidle_gap = "1 hour"', "settings.idle_gap"),
        ('port = "p"\ndevice = ""', "must not be empty"),
        ('port = "usb:zz:1"\ndevice = "d"', "applications.it.settings.port: 'usb:zz:1' is no USB id"),
        ('port = "usb:1546"\ndevice = "d"', "is no USB id"),
        ('port = "usb:1546:-1"\ndevice = "d"', "is no USB id"),
    ],
)
def test_wrong_settings_are_refused_by_the_name_of_the_field(toml: str, problem: str) -> None:
    assert problem in refusal("serial", toml)


def test_channels_are_those_that_the_framings_can_tell() -> None:
    def channels(framing: str) -> list[str]:
        return sorted(channel.name for channel in make("serial", f'port = "p"\ndevice = "d"\nframing = {framing}').channels)

    assert channels('["nmea"]') == ["position", "sentences"]
    assert channels('["ubx"]') == ["position"]
    assert channels('["line"]') == ["lines"]
    assert channels('["ubx", "nmea", "line"]') == ["lines", "position", "sentences"]


def test_a_replayed_capture_is_read_whole_by_the_serial_driver(tmp_path: Path) -> None:
    """Replay writes into a pty, the serial driver reads it: started in either order, nothing is missed."""
    for reader_first in (True, False):
        link = tmp_path / f"gnss-{reader_first}"
        replay = make("replay", f'format = "bytes"\nfile = "{CAPTURES}/pygpsdata-MIXED.log"\nlink = "{link}"\nrate = 60000')
        player = KeepingContext()
        thread = threading.Thread(target=replay.run, args=(player,))
        if not reader_first:
            thread.start()
            eventually(link.is_symlink)
        with running(settings(link)) as (_, context):
            if reader_first:
                thread.start()
            thread.join(20)
            assert not thread.is_alive()
            eventually(lambda context=context: len(on_channel(context, "position")) == 39)
        assert context.rejected == []
        assert len(on_channel(context, "sentences")) == 8
        assert not link.is_symlink()
