"""Record batches, format 2: https://kafka.apache.org/documentation/#recordbatch.

kafka-python has these too, made for one record at a time; a whole batch at once is several times as fast.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google_crc32c import value as crc32c
from kafka import codec, errors  # type: ignore[import-untyped]

from brokers.contract import Record
from brokers.kafka.failures import Trouble

#: Base offset, length of all that follows, leader's epoch, format, CRC-32C of all that follows.
_FRONT: Final = struct.Struct(">qiibI")
#: Attributes, last offset's delta, first and last time (ms), producer's id and epoch, first sequence number, records.
_HEAD: Final = struct.Struct(">hiqqqhii")
_LENGTH: Final = struct.Struct(">qi")
_BODY: Final = _FRONT.size + _HEAD.size
_FORMAT: Final = 2
_CODEC: Final = 0x07
_APPEND_TIME: Final = 0x08
_CONTROL: Final = 0x20

#: By the names of options, their numbers in attributes.
CODECS: Final[Mapping[str, int]] = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_NAMES: Final = {number: name for name, number in CODECS.items()}

#: Zigzag varints of 0 to 63.
_ONE_BYTE: Final = frozenset(range(0, 0x80, 2))

Pair = tuple[bytes, bytes]


class Producer(NamedTuple):
    """Who has made a batch, and the number of its first record: the server takes each number once."""

    id: int
    epoch: int
    sequence: int


def encode_batch(records: Sequence[Pair], producer: Producer, *, time: int, compression: str) -> bytes:
    """Keys and values as a batch; ``time`` in ms since 1970, UTC."""
    parts: list[bytes] = []
    add = parts.append
    for number, (key, value) in enumerate(records):
        # Attributes and time's delta are 0, there are no headers.
        offset, key_size, value_size = _varint(number), _varint(len(key)), _varint(len(value))
        size = 3 + len(offset) + len(key_size) + len(key) + len(value_size) + len(value)
        add(_varint(size) + b"\0\0" + offset + key_size + key + value_size)
        add(value)
        add(b"\0")
    body = b"".join(parts)
    attributes = CODECS[compression]
    if attributes:
        body = bytes(getattr(codec, f"{compression}_encode")(body))
    count = len(records)
    rest = _HEAD.pack(attributes, count - 1, time, time, *producer, count) + body
    return _FRONT.pack(0, _FRONT.size - _LENGTH.size + len(rest), -1, _FORMAT, crc32c(rest)) + rest


class Batch(NamedTuple):
    """Records of one batch, and the offset after it. ``damaged`` when its checksum does not match."""

    next: int
    records: list[Record]
    on_server_time: bool
    damaged: bool


def decode_batches(data: bytes, begin: int) -> Iterator[Batch]:
    """What the server has answered, from offset ``begin`` on; a batch that is cut short at the end is left out.

    A damaged batch comes as one record with an empty value, at its last offset: it must not stop its reader. Raises
    `Trouble` for a compression whose library is not installed.
    """
    place = 0
    while place + _BODY <= len(data):
        base, length, _, version, checksum = _FRONT.unpack_from(data, place)
        end = place + _LENGTH.size + length
        if end > len(data):
            return
        if version != _FORMAT:
            raise Trouble(errors.UnsupportedVersionError(), f"records in format {version}, of a server before Kafka 0.11")
        yield _batch(data[place + _FRONT.size : end], base, checksum, begin)
        place = end


def offset_after(data: bytes) -> int | None:
    """The offset after the last whole batch in ``data``; None when there is none."""
    place = 0
    after: int | None = None
    while place + _BODY <= len(data):
        base, length = _LENGTH.unpack_from(data, place)
        if place + _LENGTH.size + length > len(data):
            break
        after = base + _HEAD.unpack_from(data, place + _FRONT.size)[1] + 1
        place += _LENGTH.size + length
    return after


def _batch(rest: bytes, base: int, checksum: int, begin: int) -> Batch:
    attributes, last, first_time, last_time, _, _, _, count = _HEAD.unpack_from(rest)
    on_server_time = bool(attributes & _APPEND_TIME)
    after = base + last + 1
    if crc32c(rest) != checksum:
        return Batch(after, [Record(base + last, 1_000 * last_time, "", b"")], on_server_time, damaged=True)
    if attributes & _CONTROL:
        return Batch(after, [], on_server_time, damaged=False)
    body = rest[_HEAD.size :]
    if compression := attributes & _CODEC:
        body = _decompressed(_NAMES.get(compression, str(compression)), body)
    times = _Times(1_000 * first_time, 1_000 * last_time if on_server_time else None)
    return Batch(after, _records(body, count, base, begin, times), on_server_time, damaged=False)


class _Times(NamedTuple):
    """Append times, µs: that of all, or else of the first, to which each record has its difference."""

    first: int
    all: int | None


def _records(body: bytes, count: int, base: int, begin: int, times: _Times) -> list[Record]:
    first, fixed = times
    records = []
    place = 0
    # Numbers below 64 are one byte and most are: they are read here, where a call would cost more than the reading.
    for _ in range(count):
        size, place = (body[place] >> 1, place + 1) if body[place] < 0x80 else _read_varint(body, place)
        end = place + size
        place += 1
        time_delta, place = (0, place + 1) if body[place] == 0 else _read_varint(body, place)
        delta, place = _read_varint(body, place)
        key_size, place = (body[place] >> 1, place + 1) if body[place] in _ONE_BYTE else _read_varint(body, place)
        value_at = place + key_size if key_size > 0 else place
        key = body[place:value_at].decode(errors="backslashreplace")
        value_size, place = _read_varint(body, value_at)
        if base + delta >= begin:
            time = first + 1_000 * time_delta if fixed is None else fixed
            records.append(Record(base + delta, time, key, body[place : place + value_size] if value_size > 0 else b""))
        place = end
    return records


def _decompressed(compression: str, body: bytes) -> bytes:
    has: Any = getattr(codec, f"has_{compression}", None)
    if has is None or not has():
        raise Trouble(errors.UnsupportedCodecError(), f"its records are compressed with {compression}, which cannot be read here")
    return bytes(getattr(codec, f"{compression}_decode")(body))


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """A zigzag varint, and the place after it."""
    byte = data[place]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), place + 1
    number, shift = byte & 0x7F, 7
    while True:
        place += 1
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), place + 1
        shift += 7


def _long_varint(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT: Final = [_long_varint(number) for number in range(1 << 13)]


def _varint(number: int) -> bytes:
    """A number from 0 on as a zigzag varint."""
    return _SHORT[number] if number < len(_SHORT) else _long_varint(number)
