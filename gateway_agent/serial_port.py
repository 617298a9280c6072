"""A serial port that comes back by itself: unplugged and plugged in again, the driver just reads on."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from schemas.errors import ConfigurationError, IoTCloudError

if TYPE_CHECKING:
    import serial

    from gateway_agent.driver import Context

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Seconds a write may take.
_WRITE_WITHIN: Final = 5.0


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
        self._locate = _finder(port)
        self._options = {"baudrate": baud, "write_timeout": _WRITE_WITHIN, **options}
        self._port: serial.Serial | None = None
        self._writing = threading.Lock()
        self._attempts = 0
        self._again_at = 0.0
        #: How often it was opened.
        self.opened = 0

    @property
    def connected(self) -> bool:
        return self._port is not None

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
            port.timeout = timeout
            data = bytes(port.read(1))
            waiting = min(port.in_waiting, max_bytes - 1) if data else 0
            return data + bytes(port.read(waiting)) if waiting else data
        except (OSError, TypeError) as error:  # pyserial's own errors are OSErrors; TypeError: closed meanwhile
            self._lose(error)
            return b""

    def write(self, data: bytes) -> None:
        """Raises `SerialUnavailable` when the port is gone or takes nothing."""
        with self._writing:
            port = self._port
            if port is None:
                raise SerialUnavailable(f"{self._asked}: is not connected", remedy="plug the device in")
            try:
                port.write(data)
                port.flush()
            except (OSError, TypeError) as error:
                raise SerialUnavailable(f"{self._asked}: {error}", remedy="plug the device in") from error

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):
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
        except OSError as error:
            self._put_off()
            if self._attempts == 1:
                self._context.log.warning("the serial port cannot be opened yet", port=self._asked, reason=str(error))
            return False
        self._attempts = 0
        self.opened += 1
        self._context.log.info("the serial port is open", port=self._asked, path=path)
        return True

    def _lose(self, error: Exception) -> None:
        self._context.log.warning("the serial port is gone", port=self._asked, reason=str(error))
        self.close()
        self._put_off()

    def _put_off(self) -> None:
        whole = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        self._again_at = time.monotonic() + random.uniform(whole / 2, whole)


def _finder(port: str) -> Callable[[], str | None]:
    if not port.startswith("usb:"):
        return lambda: port if os.path.lexists(port) else None
    try:
        vendor, product, *rest = port.removeprefix("usb:").split(":")
        wanted = (int(vendor, 16), int(product, 16))
    except ValueError:
        raise ConfigurationError(
            f"serial port {port!r} is no USB id", remedy="write usb:VVVV:PPPP or usb:VVVV:PPPP:SERIAL, such as usb:1546:01a8"
        ) from None
    number = rest[0] if rest else None

    def find() -> str | None:
        from serial.tools import list_ports

        for found in list_ports.comports():
            if (found.vid, found.pid) == wanted and number in (None, found.serial_number):
                return str(found.device)
        return None

    return find
