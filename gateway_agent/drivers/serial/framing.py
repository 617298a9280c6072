"""Frames on a serial line: where one begins, whether it is whole, and whether it is undamaged.

A recogniser looks at bytes that begin like a frame and says where the frame ends, or that more bytes are needed (None),
or what is wrong with it (text).

- NMEA 0183: ``$``, printable ASCII, ``*``, the XOR of what is between as two hexadecimal digits, line end.
- UBX (u-blox M8 receiver description, UBX-13003221, section 32): b5 62, class, id, length (16 bits, little-endian),
  payload, and the 8-bit Fletcher checksum (RFC 1145) of everything after the first two bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from itertools import accumulate
from operator import xor
from typing import Final, NamedTuple

Recogniser = Callable[[bytes | bytearray, int, int], "int | str | None"]


class Framing(NamedTuple):
    """How frames of one kind begin, and their recogniser: (buffer, where the frame begins, longest frame in bytes)."""

    sync: bytes
    recognise: Recogniser


#: Longest NMEA sentence believed: the standard says 82 bytes, receivers' own sentences are several times that.
_LONGEST_SENTENCE: Final = 1_024
#: A body holds neither ``$`` nor ``*``, so a sentence cut short never swallows the one behind it.
_BODY: Final = re.compile(rb"[\x20-\x23\x25-\x29\x2b-\x7e]*")
_SUM_AND_END: Final = re.compile(rb"\*([0-9A-Fa-f]{2})\r?\n")
_SUM_SO_FAR: Final = re.compile(rb"(\*([0-9A-Fa-f]{1,2}\r?)?)?\Z")
_UBX_HEADER: Final = 6


def recognise_nmea(buffer: bytes | bytearray, at: int, longest: int) -> int | str | None:
    """See the module."""
    limit = at + min(longest, _LONGEST_SENTENCE)
    body = _BODY.match(buffer, at + 1, limit)
    end = body.end() if body else at + 1
    tail = _SUM_AND_END.match(buffer, end)
    if tail:
        found = reduce(xor, buffer[at + 1 : end], 0)
        return tail.end() if found == int(tail[1], 16) else "nmea: checksum is wrong"
    if end >= limit:
        return "nmea: too long"
    # `match` with `\Z` holds only at the end of the buffer.
    return None if _SUM_SO_FAR.match(buffer, end) else "nmea: no checksum at the end of the line"


def recognise_ubx(buffer: bytes | bytearray, at: int, longest: int) -> int | str | None:
    """See the module."""
    if len(buffer) < at + _UBX_HEADER:
        return None
    end = at + _UBX_HEADER + int.from_bytes(buffer[at + 4 : at + 6], "little") + 2
    if end - at > longest:
        return "ubx: longer than any frame"
    if len(buffer) < end:
        return None
    summed = buffer[at + 2 : end - 2]
    a, b = sum(summed) & 0xFF, sum(accumulate(summed)) & 0xFF
    return end if buffer[end - 2] == a and buffer[end - 1] == b else "ubx: checksum is wrong"


FRAMINGS: Final[Mapping[str, Framing]] = {
    "nmea": Framing(b"$", recognise_nmea),
    "ubx": Framing(b"\xb5\x62", recognise_ubx),
}
