"""Captured bytes into a pseudo-terminal, as fast as the line once was."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import select
import struct
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from gateway_agent.driver import Context
from gateway_agent.drivers.replay.fingerprint import fingerprint
from gateway_agent.drivers.replay.settings import ReplaySettings
from schemas.errors import ConfigurationError, IoTCloudError

#: Seconds between looks at the terminal.
_TICK: Final = 0.02
#: Seconds after a reader has opened the terminal at which writing begins even if it has not discarded old input.
_SETTLE: Final = 2.0
#: Seconds that a reader has at the end to read what was written.
_DRAIN: Final = 30.0
#: Seconds between notes of how far it has come.
_STORE_EVERY: Final = 1.0
#: Seconds between the last byte's being read and the end of the line.
_HANDED_ON: Final = 0.5
_STATE: Final = "capture"


def check(settings: ReplaySettings) -> None:
    """Raises `ConfigurationError` when the file cannot be read, or something else than a link stands in its place."""
    _open(settings).close()
    _check_link(Path(settings.link))


def play_bytes(context: Context, settings: ReplaySettings) -> None:
    """Write the file into a pty whose slave is found under ``link``, until it ends or the context is stopping.

    Raises `ConfigurationError` when the file cannot be read or the link not be made.
    """
    with _open(settings) as data, _terminal(Path(settings.link)) as terminal:
        size = os.fstat(data.fileno()).st_size
        offset = min(_offset(context, data, settings), size)
        data.seek(offset)
        if offset == size or not terminal.wait_for_reader(context):
            return
        context.log.info("a reader has come", link=settings.link, from_byte=offset)
        started = stored = time.monotonic()
        first = offset
        while chunk := data.read(max(1, min(4_096, int(settings.rate * _TICK)))):
            while chunk:
                due = started + (offset - first) / settings.rate
                if not context.sleep(max(0.0, due - time.monotonic())):
                    return
                written = terminal.write(chunk)
                if not written:
                    if not context.sleep(_TICK):
                        return
                    # What the reader could not take in time is not made up for in a burst.
                    started, first = time.monotonic(), offset
                offset += written
                chunk = chunk[written:]
            if time.monotonic() - stored > _STORE_EVERY:
                _note(context, data, offset)
                stored = time.monotonic()
        _note(context, data, size)
        terminal.drain(context)
        context.log.info("the captured bytes have ended", file=settings.file, bytes=size)


def _offset(context: Context, data: BinaryIO, settings: ReplaySettings) -> int:
    """How far an earlier process had come with this file."""
    stored = context.state.get(_STATE)
    if stored is None:
        return 0
    if fingerprint(data.fileno(), sample=stored["file"][0]) != stored["file"]:
        context.log.warning("other bytes than before: they are replayed from their beginning", file=settings.file)
        return 0
    return int(stored["offset"])


def _note(context: Context, data: BinaryIO, offset: int) -> None:
    context.state[_STATE] = {"file": fingerprint(data.fileno()), "offset": offset}


class _Terminal:
    """The master side of a pty in raw mode."""

    def __init__(self, master: int, slave_path: str) -> None:
        self._master = master
        self._slave_path = slave_path
        self._poll = select.poll()
        self._poll.register(master, select.POLLOUT | select.POLLPRI)

    @property
    def has_reader(self) -> bool:
        """Whether the slave is open: a pty hangs up while it is not."""
        return not any(events & select.POLLHUP for _, events in self._poll.poll(0))

    def wait_for_reader(self, context: Context) -> bool:
        """Until a reader is ready. False when stopping.

        Readers open the slave, set it up, and discard old input (pyserial does); what was written in between would be
        lost. Packet mode (tty_ioctl(4)) tells of the discarding; a reader that does not discard gets its time instead.
        """
        while not self.has_reader:
            if not context.sleep(_TICK):
                return False
        settled = time.monotonic() + _SETTLE
        while time.monotonic() < settled and not self._discarded():
            if not context.sleep(_TICK):
                return False
        return True

    def write(self, data: bytes) -> int:
        """Bytes that went in: none while nobody reads, or when the reader is behind."""
        self._discarded()
        if not self.has_reader:
            return 0
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def drain(self, context: Context) -> None:
        """Until the reader has read everything: closing the pty would take it away. Not longer than `_DRAIN`."""
        slave = os.open(self._slave_path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            # Polling the slave also brings in what is still on its way through the kernel; FIONREAD would miss that.
            waiting = select.poll()
            waiting.register(slave, select.POLLIN)
            end = time.monotonic() + _DRAIN
            while waiting.poll(0) and time.monotonic() < end and context.sleep(_TICK):
                self._discarded()
        finally:
            os.close(slave)
        # A reader may have taken bytes that it has not handed on yet, and would forget them with the port.
        context.sleep(_HANDED_ON)

    def _discarded(self) -> bool:
        """Whether the reader has discarded its input since last asked; takes away what it has written."""
        flushed = False
        while True:
            try:
                data = os.read(self._master, 4_096)
            except BlockingIOError:
                return flushed
            except OSError as error:
                if error.errno == errno.EIO:
                    return flushed
                raise
            if not data:
                return flushed
            flushed = flushed or bool(data[0] & termios.TIOCPKT_FLUSHREAD)


def _open(settings: ReplaySettings) -> BinaryIO:
    try:
        return Path(settings.file).open("rb")
    except OSError as error:
        raise ConfigurationError(
            f"file: {settings.file}: cannot be read: {error.strerror}", remedy="give the path of captured bytes"
        ) from error


@contextlib.contextmanager
def _terminal(link: Path) -> Iterator[_Terminal]:
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        tty.setraw(slave)
        os.close(slave)
        fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
        os.set_blocking(master, False)
        _link(path, link)
        try:
            yield _Terminal(master, path)
        finally:
            if link.is_symlink() and str(link.readlink()) == path:
                link.unlink()
    finally:
        os.close(master)


def _link(target: str, link: Path) -> None:
    """Put the symbolic link in place at once; one from a process that was killed gives way."""
    _check_link(link)
    fresh = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)
    except OSError as error:
        raise IoTCloudError(
            f"link: {link}: cannot be made: {error.strerror}", remedy="name a path that can be written"
        ) from error


def _check_link(link: Path) -> None:
    if link.exists() and not link.is_symlink():
        raise ConfigurationError(f"link: {link}: is there and is no symbolic link", remedy="name a path that is free")
