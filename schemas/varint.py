"""Avro's zig-zag variable-length integers (Avro 1.12 specification, "Binary encoding")."""

from __future__ import annotations

from schemas.errors import FrameError

_LONGEST = 10


def encode_long(value: int) -> bytes:
    """Encode a 64-bit signed integer."""
    number = (value << 1) ^ (value >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_long(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the integer at ``position`` and the position after it. Raises `FrameError`."""
    shift = number = 0
    try:
        for _ in range(_LONGEST):
            byte = data[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >> 64:
                    break
                return (number >> 1) ^ -(number & 1), position
            shift += 7
    except IndexError:
        raise FrameError(f"ends inside an integer at byte {position}") from None
    raise FrameError(f"an integer of more than 64 bits before byte {position}")


def decode_string(data: bytes, position: int) -> tuple[str, int]:
    """Return the string at ``position`` and the position after it. Raises `FrameError`."""
    length, start = decode_long(data, position)
    end = start + length
    if length < 0 or end > len(data):
        raise FrameError(f"a string of {length} bytes at byte {position} does not fit")
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError as error:
        raise FrameError(f"a string at byte {position} is not UTF-8") from error


def encode_string(value: str) -> bytes:
    data = value.encode()
    return encode_long(len(data)) + data
