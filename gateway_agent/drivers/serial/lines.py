"""Lines of text among bytes that are no frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_TEXT_CONTROLS: Final = frozenset("\t")


class LineSplitter:
    """Splits at ``delimiter``. A line that begins with one of ``starts`` is a damaged frame, not a line."""

    def __init__(self, delimiter: bytes, longest: int, *, starts: tuple[bytes, ...]) -> None:
        self._delimiter = delimiter
        self._longest = longest
        self._starts = starts
        self._held = bytearray()
        self._offset = 0
        self._problem = ""

    def add(self, offset: int, data: bytes, problem: str) -> None:
        """Bytes that follow those added before, unless a frame stood between (then `split` was called with ``end``)."""
        if not self._held:
            self._offset = offset
        self._held += data
        self._problem = self._problem or problem

    def split(self, *, end: bool) -> Iterator[tuple[int, bytes, str]]:
        """Offset and bytes of each line with its delimiter, and what is wrong with it; with ``end`` also what is unfinished."""
        while (at := self._held.find(self._delimiter)) >= 0:
            yield self._take(at + len(self._delimiter))
        while len(self._held) > self._longest:
            yield self._take(self._longest, "line: too long")
        if end and self._held:
            yield self._take(len(self._held), self._problem or "line: incomplete")
        if not self._held:
            self._problem = ""

    def _take(self, count: int, problem: str = "") -> tuple[int, bytes, str]:
        data = bytes(self._held[:count])
        offset = self._offset
        del self._held[:count]
        self._offset += count
        return offset, data, problem or self._check(data)

    def _check(self, data: bytes) -> str:
        if self._starts and data.startswith(self._starts):
            return self._problem or "line: a damaged frame"
        if len(data) > self._longest:
            return "line: too long"
        try:
            text = data.removesuffix(self._delimiter).rstrip(b"\r").decode()
        except UnicodeDecodeError:
            return "line: not UTF-8"
        if not all(character.isprintable() or character in _TEXT_CONTROLS for character in text):
            return "line: not text"
        return ""
