"""Finding frames among whatever else a line carries.

Invariants, whatever the bytes:

- Every byte is either part of a frame that passed its check, or skipped; never both, never neither.
- A frame that fails its check costs its first byte: the search goes on behind that, so good frames inside are found.
- At most `longest` bytes wait for a frame to become whole. One that stays incomplete while the line is silent is given
  up as soon as an undamaged frame is found behind its beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from gateway_agent.drivers.serial.framing import FRAMINGS
from gateway_agent.drivers.serial.lines import LineSplitter

_NOTHING_BEGINS: Final = "no frame begins here"
_INCOMPLETE: Final = "incomplete"
#: Rubbish is reported in pieces of at most about this many bytes.
_PIECE: Final = 1 << 16


class Frame(NamedTuple):
    """Undamaged bytes, whole, with their framing ("nmea", "ubx", "line") and their offset on the line."""

    kind: str
    offset: int
    data: bytes


class Rubbish(NamedTuple):
    """Bytes that were skipped: the offset on the line of the first, how many, and why."""

    offset: int
    length: int
    reason: str


class Scanner:
    """Feed it what arrives, cut anywhere. ``delimiter`` is used by the framing "line", which takes what others leave."""

    def __init__(self, framings: Sequence[str], *, longest: int = 4_096, delimiter: bytes = b"\n") -> None:
        self._framings = {name: FRAMINGS[name] for name in framings if name in FRAMINGS}
        self._longest = longest
        starts = tuple(framing.sync for framing in self._framings.values())
        self._lines = LineSplitter(delimiter, longest, starts=starts) if "line" in framings else None
        self._buffer = bytearray()
        #: Offset on the line of the buffer's first byte.
        self._offset = 0
        self._rubbish: Rubbish | None = None
        self._waiting = False
        self._stale = False
        #: Good frames by kind, damaged ones by reason, and bytes skipped.
        self.frames: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self.skipped = 0

    def feed(self, data: bytes) -> Iterator[Frame | Rubbish]:
        """What is found up to now, in the order of the line."""
        self._buffer += data
        yield from self._scan()
        yield from self._give_up_stale()

    def idle(self) -> Iterator[Frame | Rubbish]:
        """To be called when the line has been silent: see the invariants."""
        self._stale = self._waiting
        yield from self._give_up_stale()
        yield from self._report()

    def finish(self) -> Iterator[Frame | Rubbish]:
        """The line has ended: nothing is waited for any longer."""
        while self._buffer:
            yield from self._skip(1, _INCOMPLETE)
            yield from self._scan()
        yield from self._split_lines(end=True)
        yield from self._report()

    def _scan(self) -> Iterator[Frame | Rubbish]:
        self._waiting = False
        while self._buffer and not self._waiting:
            at, kind = self._next(0)
            if at:
                yield from self._skip(at, _NOTHING_BEGINS)
                continue
            framing = self._framings[kind]
            end = framing.recognise(self._buffer, 0, self._longest) if len(self._buffer) >= len(framing.sync) else None
            if end is None:
                self._waiting = True
            elif isinstance(end, str):
                yield from self._skip(1, end)
            else:
                yield from self._take(kind, end)

    def _next(self, start: int) -> tuple[int, str]:
        """Where the next frame may begin, and of which kind; the buffer's length when nowhere."""
        found = (len(self._buffer), "")
        for kind, (sync, _) in self._framings.items():
            at = self._buffer.find(sync, start)
            if at < 0:
                # The first bytes of it may have arrived.
                at = next((len(self._buffer) - n for n in range(len(sync) - 1, 0, -1) if self._buffer.endswith(sync[:n])), -1)
            if start <= at < found[0]:
                found = (at, kind)
        return found

    def _give_up_stale(self) -> Iterator[Frame | Rubbish]:
        while self._stale and self._waiting and self._good_frame_behind():
            yield from self._skip(1, _INCOMPLETE)
            yield from self._scan()
        self._stale = self._stale and self._waiting

    def _good_frame_behind(self) -> bool:
        at, kind = self._next(1)
        while at < len(self._buffer):
            if isinstance(self._framings[kind].recognise(self._buffer, at, self._longest), int):
                return True
            at, kind = self._next(at + 1)
        return False

    def _take(self, kind: str, end: int) -> Iterator[Frame | Rubbish]:
        yield from self._split_lines(end=True)
        yield from self._report()
        self.frames[kind] += 1
        yield Frame(kind, self._offset, bytes(self._buffer[:end]))
        self._consume(end)

    def _skip(self, count: int, reason: str) -> Iterator[Frame | Rubbish]:
        if reason is not _NOTHING_BEGINS:
            self.damaged[reason] += 1
        if self._lines:
            self._lines.add(self._offset, bytes(self._buffer[:count]), reason)
            self._consume(count)
            yield from self._split_lines(end=False)
        else:
            offset = self._offset
            self._consume(count)
            yield from self._note(offset, count, reason)

    def _split_lines(self, *, end: bool) -> Iterator[Frame | Rubbish]:
        """What the other framings left, as lines, and what is no line either."""
        if self._lines is None:
            return
        for offset, data, problem in self._lines.split(end=end):
            if problem:
                yield from self._note(offset, len(data), problem)
            else:
                yield from self._report()
                self.frames["line"] += 1
                yield Frame("line", offset, data)

    def _note(self, offset: int, count: int, reason: str) -> Iterator[Rubbish]:
        """Rubbish is put together with what stands before it; the first reason that is one names the whole."""
        self.skipped += count
        before = self._rubbish
        if before is None or before.offset + before.length != offset:
            yield from self._report()
            self._rubbish = Rubbish(offset, count, reason)
        else:
            named = reason if before.reason == _NOTHING_BEGINS else before.reason
            self._rubbish = Rubbish(before.offset, before.length + count, named)
        if self._rubbish.length >= _PIECE:
            yield from self._report()

    def _report(self) -> Iterator[Rubbish]:
        rubbish, self._rubbish = self._rubbish, None
        if rubbish:
            yield rubbish

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count
