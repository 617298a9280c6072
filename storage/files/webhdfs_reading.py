"""A file on HDFS as a file object."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

#: Bytes that one request asks for at most.
CHUNK: Final = 4 << 20


class RangeReader(io.RawIOBase):
    """A file read by ranges, so that one that breaks off is asked for again, and memory stays bounded."""

    def __init__(self, read: Callable[[str, int, int], bytes], path: str, length: int) -> None:
        self._read = read
        self._path = path
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._length)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readall(self) -> bytes:
        # The inherited one asks for 8 kB at a time.
        parts = []
        while (length := min(CHUNK, self._length - self._position)) > 0:
            parts.append(self._read(self._path, self._position, length))
            self._position += length
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(0, self._length - self._position), CHUNK)
        if length:
            buffer[:length] = self._read(self._path, self._position, length)
            self._position += length
        return length
