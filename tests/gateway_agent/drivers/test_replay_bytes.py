"""Captured bytes into a pseudo-terminal: whole, raw, never faster than the reader, and gone at the end."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from gateway_agent.drivers.replay.fingerprint import fingerprint
from tests.gateway_agent.drivers.context import KeepingContext, eventually
from tests.gateway_agent.drivers.kit import make, refusal

#: Every byte there is, also those that a terminal which is not raw would act on.
EVERYTHING = bytes(range(256)) * 40


@contextlib.contextmanager
def playing(
    tmp_path: Path, data: bytes, *, rate: float = 100_000, stored: dict[str, object] | None = None
) -> Iterator[tuple[Path, KeepingContext, threading.Thread]]:
    (tmp_path / "captured").write_bytes(data)
    link = tmp_path / "line" / "device"
    driver = make("replay", f'format = "bytes"\nfile = "{tmp_path}/captured"\nlink = "{link}"\nrate = "{rate}"')
    context = KeepingContext(stored=stored)
    thread = threading.Thread(target=driver.run, args=(context,))
    thread.start()
    try:
        yield link, context, thread
    finally:
        context.stop()
        thread.join(20)
        assert not thread.is_alive()


def read(link: Path, count: int, *, pause: float = 0.0) -> bytes:
    data = b""
    with serial.Serial(os.path.realpath(link), timeout=10) as port:
        while len(data) < count:
            more = port.read(min(512, count - len(data)))
            assert more, f"{len(data)} of {count} bytes came"
            data += more
            if pause:
                time.sleep(pause)
    return data


def test_every_byte_arrives_unchanged(tmp_path: Path) -> None:
    with playing(tmp_path, EVERYTHING) as (link, _, thread):
        eventually(link.is_symlink)
        assert read(link, len(EVERYTHING)) == EVERYTHING
        thread.join(20)
        assert not thread.is_alive()
        assert not link.is_symlink()


def test_a_reader_that_comes_late_misses_nothing(tmp_path: Path) -> None:
    with playing(tmp_path, EVERYTHING) as (link, context, _):
        eventually(link.is_symlink)
        # Many looks for a reader, at a rate at which all would be written by now.
        eventually(lambda: len(context.slept) > 10)
        assert read(link, len(EVERYTHING)) == EVERYTHING


def test_a_reader_that_does_not_discard_old_input_gets_all_too(tmp_path: Path) -> None:
    with playing(tmp_path, EVERYTHING[:2_000]) as (link, _, _):
        eventually(link.is_symlink)
        data = b""
        with link.open("rb", buffering=0) as port:
            while len(data) < 2_000:
                data += port.read(2_000) or b""
        assert data == EVERYTHING[:2_000]


def test_a_slow_reader_slows_the_line_and_loses_nothing(tmp_path: Path) -> None:
    """At a rate that fills every buffer on the way long before the reader takes it."""
    data = random.Random(3).randbytes(200_000)
    with playing(tmp_path, data, rate=50_000_000) as (link, _, _):
        eventually(link.is_symlink)
        assert read(link, len(data), pause=0.0005) == data


def test_the_rate_is_kept(tmp_path: Path) -> None:
    """By what is asked of the clock: the pauses add up to the time the bytes take."""
    with playing(tmp_path, EVERYTHING[:1_000], rate=2_000) as (link, context, _):
        eventually(link.is_symlink)
        assert read(link, 1_000) == EVERYTHING[:1_000]
        assert sum(context.slept) > 0.4


def test_it_stops_when_asked_with_no_reader_in_sight(tmp_path: Path) -> None:
    with playing(tmp_path, EVERYTHING) as (link, context, thread):
        eventually(link.is_symlink)
        context.stop()
        thread.join(20)
        assert not thread.is_alive()
        assert not link.is_symlink()


def noted(tmp_path: Path, data: bytes, offset: int) -> dict[str, object]:
    """The state of a process that had come so far with ``data``."""
    (tmp_path / "before").write_bytes(data)
    with (tmp_path / "before").open("rb") as file:
        return {"capture": {"file": fingerprint(file.fileno()), "offset": offset}}


def test_it_goes_on_about_where_it_was_and_ends_only_once(tmp_path: Path) -> None:
    with playing(tmp_path, EVERYTHING, stored=noted(tmp_path, EVERYTHING, 10_000)) as (link, context, thread):
        eventually(link.is_symlink)
        assert read(link, len(EVERYTHING) - 10_000) == EVERYTHING[10_000:]
        thread.join(20)
        assert context.state == noted(tmp_path, EVERYTHING, len(EVERYTHING))
    with playing(tmp_path, EVERYTHING, stored=dict(context.state)) as (_, _, thread):
        thread.join(20)
        assert not thread.is_alive()


def test_a_capture_that_has_grown_goes_on_with_what_is_new(tmp_path: Path) -> None:
    with playing(tmp_path, EVERYTHING[:3_000], stored=noted(tmp_path, EVERYTHING[:1_000], 1_000)) as (link, _, _):
        eventually(link.is_symlink)
        assert read(link, 2_000) == EVERYTHING[1_000:3_000]


def test_another_capture_under_the_same_name_begins_at_its_beginning(tmp_path: Path) -> None:
    other = bytes(reversed(EVERYTHING))
    with playing(tmp_path, other, stored=noted(tmp_path, EVERYTHING, len(EVERYTHING))) as (link, context, _):
        eventually(link.is_symlink)
        assert read(link, len(other)) == other
    assert any("other bytes than before" in str(call) for call in context.log_calls)


def test_a_link_left_by_a_killed_process_gives_way(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "device").symlink_to("/dev/pts/none")
    with playing(tmp_path, EVERYTHING[:100]) as (link, _, _):
        eventually(lambda: link.readlink() != Path("/dev/pts/none"))
        assert read(link, 100) == EVERYTHING[:100]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('file = "f"', "'link' is missing"),
        ('file = "f"\nlink = "l"\nrate = 0', "rate"),
        ('file = "f"\nlink = "l"\ndevice = "d"', "belong to a recording of events"),
        ('file = "/nowhere/f"\nlink = "l"', "cannot be read"),
    ],
)
def test_wrong_settings_are_refused(toml: str, problem: str) -> None:
    assert problem in refusal("replay", 'format = "bytes"\n' + toml)


def test_a_file_in_the_way_of_the_link_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    assert "is no symbolic link" in refusal(
        "replay", f'format = "bytes"\nfile = "{tmp_path}/precious"\nlink = "{tmp_path}/precious"'
    )
    assert (tmp_path / "precious").read_text() == "keep"
