"""A serial port that comes back by itself: unplugged and plugged in again, the driver just reads on."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from brokers.backoff import Backoff
from schemas.errors import ConfigurationError, IoTCloudError

if TYPE_CHECKING:
    import serial

    from gateway_agent.driver import Context

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Seconds a write may take.
WRITE_WITHIN: Final = 5.0
#: Seconds between looks whether the device has taken what was written.
_LOOK_EVERY: Final = 0.01
_USB: Final = re.compile(r"usb:([0-9A-Fa-f]{1,4}):([0-9A-Fa-f]{1,4})(?::(.+))?")
#: How a port shows that it is gone. pyserial's own errors are OSErrors; TypeError: closed meanwhile.
_GONE: Final = (OSError, TypeError, termios.error)


class SerialUnavailable(IoTCloudError):
    """The port is not there now."""


class SerialPort:
    """Opened when first read, and again with growing pauses whenever it is gone. Close it at the end.

    ``port`` is a path, or ``usb:VVVV:PPPP`` or ``usb:VVVV:PPPP:SERIAL`` with hexadecimal vendor and product ids.
    ``options`` go to `serial.Serial`. `read` belongs to one thread; `write` may be called from another.
    """

    def __init__(self, context: Context, port: str, *, baud: int = 9600, **options: Any) -> None:
        self._context = context
        self._asked = port
        self._locate = finder(port)
        self._options = {"baudrate": baud, **options}
        self._port: serial.Serial | None = None
        self._writing = threading.Lock()
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._put_off = False
        self._again_at = 0.0
        #: How often it was opened.
        self.opened = 0

    @property
    def path(self) -> str | None:
        """The device file, while it is there."""
        return self._locate()

    def read(self, max_bytes: int = 4096, *, timeout: float = 0.5) -> bytes:
        """What has arrived, at most ``max_bytes``; empty when nothing did within ``timeout`` seconds or the port is gone."""
        if self._port is None and not self._open(timeout):
            return b""
        port = self._port
        if port is None or self._context.stopping:
            return b""
        try:
            if port.timeout != timeout:
                port.timeout = timeout
            data = bytes(port.read(1))
            waiting = min(port.in_waiting, max_bytes - 1) if data else 0
            return data + bytes(port.read(waiting)) if waiting else data
        except _GONE as error:
            self._lose(error)
            return b""

    def write(self, data: bytes, *, within: float = WRITE_WITHIN) -> None:
        """Write all of ``data`` within so many seconds, else discard what the device has not taken.

        Raises `SerialUnavailable` when the port is gone or the device takes nothing.
        """
        until = time.monotonic() + within
        if not self._writing.acquire(timeout=max(0.0, within)):
            raise SerialUnavailable(f"{self._asked}: is still being written to", remedy="try again")
        try:
            port = self._port
            if port is None:
                raise SerialUnavailable(f"{self._asked}: is not connected", remedy="plug the device in")
            try:
                _send(port, data, until)
            except TimeoutError as error:
                with contextlib.suppress(*_GONE):
                    port.reset_output_buffer()
                raise SerialUnavailable(f"{self._asked}: {error}", remedy="does the device hold up the line?") from None
            except _GONE as error:
                raise SerialUnavailable(f"{self._asked}: {error}", remedy="plug the device in") from error
        finally:
            self._writing.release()

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(*_GONE):
                port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, timeout: float) -> bool:
        import serial

        wait = min(timeout, max(0.0, self._again_at - time.monotonic()))
        if wait and not self._context.sleep(wait):
            return False
        if time.monotonic() < self._again_at:
            return False
        path = self._locate()
        try:
            if path is None:
                raise FileNotFoundError(2, "no such device")
            self._port = serial.Serial(os.path.realpath(path), **self._options)
        except ValueError as error:
            raise ConfigurationError(f"serial port {self._asked}: {error}", remedy="check baud and the other options") from error
        except (OSError, termios.error) as error:
            if not self._put_off:
                self._context.log.warning("the serial port cannot be opened yet", port=self._asked, reason=str(error))
            self._try_later()
            return False
        self._pauses.reset()
        self._put_off = False
        self.opened += 1
        self._context.log.info("the serial port is open", port=self._asked, path=path)
        return True

    def _lose(self, error: Exception) -> None:
        self._context.log.warning("the serial port is gone", port=self._asked, reason=str(error))
        self.close()
        self._try_later()

    def _try_later(self) -> None:
        self._put_off = True
        self._again_at = time.monotonic() + self._pauses.next()


def _send(port: serial.Serial, data: bytes, until: float) -> None:
    """Until the device has taken ``data``. Raises TimeoutError, or as a port that is gone does.

    Not by `serial.Serial.write` and ``flush``: one waits for more room than it needs, the other without an end.
    """
    ready = select.poll()
    ready.register(port.fileno(), select.POLLOUT)
    while data:
        left = until - time.monotonic()
        if left <= 0 or not ready.poll(left * 1_000):
            raise TimeoutError(f"{len(data)} bytes were not taken in time")
        with contextlib.suppress(BlockingIOError):
            data = data[os.write(port.fileno(), data) :]
    while waiting := port.out_waiting:
        if time.monotonic() > until:
            raise TimeoutError(f"{waiting} bytes were not sent in time")
        time.sleep(_LOOK_EVERY)


def finder(port: str) -> Callable[[], str | None]:
    """What finds the device file of a port, None while it is not there. Raises `ConfigurationError` for what is no port."""
    if not port.startswith("usb:"):
        return lambda: port if os.path.lexists(port) else None
    match = _USB.fullmatch(port)
    if match is None:
        raise ConfigurationError(
            f"port: {port!r} is no USB id", remedy="write usb:VVVV:PPPP or usb:VVVV:PPPP:SERIAL, such as usb:1546:01a8"
        )
    wanted = (int(match[1], 16), int(match[2], 16))
    number = match[3]

    def find() -> str | None:
        from serial.tools import list_ports

        for found in list_ports.comports():
            if (found.vid, found.pid) == wanted and number in (None, found.serial_number):
                return str(found.device)
        return None

    return find
