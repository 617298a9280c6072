"""Blocks: what a log source hands on. Many frames of one partition as one bytes value.

A runner's coder takes a list apart item by item; one bytes value crosses a stage as it is. Layout, little-endian:
``u32`` length of the topic in UTF-8, the topic, ``u32`` partition, ``i64`` first offset, ``i64`` next offset, ``i64``
newest append time, ``i64`` watermark, ``u32`` number of frames, ``u64`` size of what follows before it was compressed; then,
compressed (LZ4 block format): ``u32`` per frame: its length, ``u32`` per frame: its offset less the first, the frames. A
runner copies a block several times and keeps some of them; frames of measurements become a third or less.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_FIXED: Final = struct.Struct("<IqqqqIQq")
_LENGTH: Final = struct.Struct("<I")
_CODEC: Final = "lz4_raw"


@dataclass(frozen=True, slots=True)
class Block:
    """Frames ``first_offset`` to ``next_offset`` (exclusive) of a partition; offsets may have holes.

    One without frames says that the partition has been quiet for longer than the bound on its disorder, or is at its end.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    #: Newest append time of its records, µs since 1970, UTC, by the broker's clock.
    append_time: int
    #: What the source had told the runner of this partition's event time when it sent the block, µs since 1970, UTC.
    watermark: int
    #: The frames one after another, and their lengths in bytes.
    data: bytes
    lengths: npt.NDArray[np.uint32]
    #: Offset of each frame, less ``first_offset``.
    offsets: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.lengths)

    def frames(self) -> list[bytes]:
        ends = np.cumsum(self.lengths, dtype=np.int64)
        starts = ends - self.lengths
        data = self.data
        return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def block_of(topic: str, partition: int, records: Sequence[Any], *, watermark: int) -> Block:
    """A block of log records (`brokers.contract.Record`), at least one."""
    values = [record[3] for record in records]
    first = records[0][0]
    offsets = np.fromiter((record[0] for record in records), np.int64, len(records)) - first
    return Block(
        topic,
        partition,
        first,
        records[-1][0] + 1,
        max(record[1] for record in records),
        watermark,
        b"".join(values),
        np.fromiter(map(len, values), np.uint32, len(values)),
        offsets.astype(np.uint32),
    )


def quiet_block(topic: str, partition: int, offset: int, *, watermark: int) -> Block:
    """A block without frames."""
    nothing = np.empty(0, np.uint32)
    return Block(topic, partition, offset, offset, 0, watermark, b"", nothing, nothing)


def encode_block(block: Block) -> bytes:
    topic = block.topic.encode()
    content = b"".join((block.lengths.tobytes(), block.offsets.tobytes(), block.data))
    packed: bytes = pa.compress(content, codec=_CODEC, asbytes=True)
    return b"".join(
        (
            _LENGTH.pack(len(topic)),
            topic,
            _FIXED.pack(
                block.partition,
                block.first_offset,
                block.next_offset,
                block.append_time,
                block.watermark,
                len(block.lengths),
                len(content),
                len(packed),
            ),
            packed,
        )
    )


def decode_block(value: bytes) -> Block:
    """The inverse of `encode_block`. Raises `ValueError`, `OSError` or `struct.error` for bytes that are not a block."""
    (length,) = _LENGTH.unpack_from(value)
    start = _LENGTH.size + length
    topic = value[_LENGTH.size : start].decode()
    partition, first, following, appended, watermark, count, size, stored = _FIXED.unpack_from(value, start)
    packed = value[start + _FIXED.size :]
    if len(packed) != stored:
        raise ValueError(f"a block of {topic!r} is cut: {len(packed)} bytes of {stored}")
    content: bytes = pa.decompress(packed, decompressed_size=size, codec=_CODEC, asbytes=True)
    lengths = np.frombuffer(content, np.uint32, count)
    offsets = np.frombuffer(content, np.uint32, count, 4 * count)
    data = content[8 * count :]
    if len(data) != int(lengths.sum(dtype=np.int64)):
        raise ValueError(f"a block of {topic!r} holds {len(data)} bytes of frames, not what its lengths say")
    return Block(topic, partition, first, following, appended, watermark, data, lengths, offsets)
