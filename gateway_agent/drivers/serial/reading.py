"""From the bytes of a line to events, for as long as the driver runs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway_agent.driver import CommandFailed, Context
from gateway_agent.drivers.serial.positions import Clock, decode
from gateway_agent.drivers.serial.scanner import Frame, Rubbish, Scanner
from gateway_agent.drivers.serial.settings import SerialSettings, WriteArguments
from gateway_agent.serial_port import WRITE_WITHIN
from schemas.errors import SchemaError

if TYPE_CHECKING:
    from gateway_agent.serial_port import SerialPort

_READ: Final = 4_096
#: Seconds between log lines about what the line carried.
_SUMMARY_EVERY: Final = 60.0


class Line:
    """One serial line. `run` belongs to one thread; `write` may be called from another."""

    def __init__(self, settings: SerialSettings) -> None:
        self._settings = settings
        self._delimiter = settings.delimiter.encode()
        self._port: SerialPort | None = None
        self._clock = Clock(lambda: datetime.now(UTC))

    def run(self, context: Context) -> None:
        """Emit what the line carries until the context is stopping; the port may come and go."""
        settings = self._settings
        scanner = self._scanner()
        opened = 0
        summary_at = time.monotonic() + _SUMMARY_EVERY
        with context.serial(settings.port, baud=settings.baud) as port:
            self._port = port
            try:
                while not context.stopping:
                    data = port.read(_READ, timeout=settings.idle_gap)
                    if port.opened != opened:
                        # What was cut by the port's going away has no end, and the date may not be the same device's.
                        self._emit(context, scanner.finish())
                        self._clock.told = None
                        opened = port.opened
                    self._emit(context, scanner.feed(data) if data else scanner.idle())
                    if time.monotonic() > summary_at:
                        self._summarise(context, scanner)
                        summary_at = time.monotonic() + _SUMMARY_EVERY
            finally:
                self._port = None
        self._emit(context, scanner.finish())
        self._summarise(context, scanner)

    def write(self, arguments: WriteArguments, *, deadline: int) -> object:
        """Write to the device until ``deadline``, µs since 1970; the number of bytes written.

        Raises `CommandFailed`, or `SerialUnavailable` without a port or when the device does not take all of it in time.
        """
        if bool(arguments.text) == bool(arguments.hex):
            raise CommandFailed("give either 'text' or 'hex'", remedy='such as {"hex": "b562060100"}')
        try:
            data = bytes.fromhex(arguments.hex) if arguments.hex else arguments.text.encode()
        except ValueError as error:
            raise CommandFailed(f"hex: {error}", remedy="write pairs of hexadecimal digits") from None
        port = self._port
        if port is None:
            raise CommandFailed("the line is not being read yet", remedy="try again")
        port.write(data, within=min(WRITE_WITHIN, deadline / 1_000_000 - time.time()))
        return {"written": len(data)}

    def _scanner(self) -> Scanner:
        return Scanner(self._settings.framing, longest=int(self._settings.longest_frame), delimiter=self._delimiter)

    def _emit(self, context: Context, found: Iterable[Frame | Rubbish]) -> None:
        for one in found:
            if isinstance(one, Rubbish):
                self._reject(context, one.offset, f"{one.length} bytes skipped: {one.reason}")
                continue
            try:
                self._tell(context, one)
            except (ValueError, SchemaError) as error:
                # One sentence that is not what its standard says, or too long for the broker, is no reason to stop reading.
                self._reject(context, one.offset, str(error))

    def _tell(self, context: Context, frame: Frame) -> None:
        """Emit what a frame says. Raises ValueError or `SchemaError` for what it does not say rightly."""
        device = self._settings.device
        if frame.kind == "line":
            context.emit(device, "lines", value=frame.data.removesuffix(self._delimiter).rstrip(b"\r").decode())
            return
        if frame.kind == "nmea":
            context.emit(device, "sentences", value=frame.data.rstrip(b"\r\n").decode("ascii"))
        position = decode(frame, self._clock)
        if position:
            event_time, *_ = position
            fields = position._asdict()
            del fields["time"]
            context.emit(device, "position", event_time=event_time, **fields)

    def _reject(self, context: Context, offset: int, reason: str) -> None:
        context.reject(f"{self._settings.port}@{offset}", reason)

    def _summarise(self, context: Context, scanner: Scanner) -> None:
        damaged = {f"damaged_{reason.replace(': ', '_').replace(' ', '_')}": n for reason, n in scanner.damaged.items()}
        frames = {f"frames_{kind}": n for kind, n in scanner.frames.items()}
        context.log.info("the serial line up to now", **frames, skipped_bytes=scanner.skipped, **damaged)
