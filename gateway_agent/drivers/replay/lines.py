"""Lines of a file by byte offset, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

#: A line longer than this comes cut to one byte more, which tells it from all others. An event is to fit into a frame.
LINE_LIMIT: Final = 1 << 17
CHUNK: Final = 1 << 16


def read_lines(file: int, start: int, end: int, *, chunk: int = CHUNK) -> Iterator[tuple[int, bytes]]:
    """Offset and content, without the line end (LF or CRLF), of the lines between two offsets of an open file.

    The file's own position is neither used nor moved, so that many readers share one descriptor.
    """
    position, begin = start, start
    rest = b""
    cut = False
    while position < end:
        data = os.pread(file, min(chunk, end - position), position)
        if not data:
            break
        position += len(data)
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if cut:
                # The tail of a line whose head has been given.
                cut = False
            else:
                yield begin, line[: LINE_LIMIT + 1].removesuffix(b"\r")
            begin += len(line) + 1
        if cut or len(rest) > LINE_LIMIT:
            if not cut:
                yield begin, rest[: LINE_LIMIT + 1]
            cut = True
            begin += len(rest)
            rest = b""
    if rest and not cut:
        yield begin, rest.removesuffix(b"\r")
