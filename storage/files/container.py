"""Avro object container files (Avro 1.12 specification, "Object Container Files") out of items that are already encoded.

The file's metadata says, beside schema and codec, under ``iotcloud.frames`` where the frames lie whose items these are: for
each its offset, its append time, its number of items and their bytes. A block ends where a frame ends.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import FrameError
from schemas.varint import decode_long, encode_long
from storage.errors import StoreRefused
from storage.files.codecs import Codec, compressor, decompressor
from storage.files.filesystem import FileSystem

_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_FRAMES: Final = "iotcloud.frames"
_HEADER_GUESS: Final = 1 << 16

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Frames:
    """Columns of the index, one row a frame."""

    offsets: Ints
    append_times: Ints
    counts: Ints
    lengths: Ints

    def pack(self) -> bytes:
        """``i64`` number of frames, then its columns as ``i64``, each as differences, little-endian; RFC 1950, then base64.

        Text, because readers may take all metadata for text.
        """
        columns = [np.diff(column, prepend=0) for column in (self.offsets, self.append_times, self.counts, self.lengths)]
        numbers = np.concatenate([np.array([len(self.offsets)]), *columns]).astype("<i8")
        return base64.b64encode(zlib.compress(numbers.tobytes(), 1))

    @classmethod
    def unpack(cls, data: bytes) -> Frames:
        """Raises `ValueError` or `zlib.error` for other bytes."""
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(data, validate=True)), "<i8").astype(np.int64)
        offsets, times, counts, lengths = np.cumsum(numbers[1:].reshape(4, int(numbers[0])), axis=1)
        return cls(offsets, times, counts, lengths)


def write_container(
    file: BinaryIO,
    *,
    schema: str,
    items: Sequence[bytes],
    frames: Frames,
    metadata: Mapping[str, str],
    codec: Codec,
    level: int,
    block_bytes: int,
) -> None:
    """Write a whole file. ``items`` holds the encoded items of each of ``frames``; ``schema`` is that of one item, as JSON."""
    compress = compressor(codec, level)
    sync = os.urandom(_SYNC_BYTES)
    entries: dict[str, bytes] = {"avro.schema": schema.encode(), "avro.codec": codec.encode()}
    entries |= {key: value.encode() for key, value in metadata.items()}
    entries[_FRAMES] = frames.pack()
    file.write(_MAGIC + encode_long(len(entries)))
    for key, value in entries.items():
        name = key.encode()
        file.write(encode_long(len(name)) + name + encode_long(len(value)) + value)
    file.write(b"\0" + sync)
    for start, end in _blocks(frames.lengths, block_bytes):
        data = compress(b"".join(items[start:end]))
        file.write(encode_long(int(frames.counts[start:end].sum())) + encode_long(len(data)))
        file.write(data)
        file.write(sync)


def _blocks(lengths: Ints, block_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of frames that make blocks: at least one frame, and no more when they reach ``block_bytes``."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + block_bytes, side="right")))
        yield start, end
        start = end


class Container:
    """A container file that is read. Raises `StoreRefused` when it is damaged, and as `FileSystem.open`."""

    def __init__(self, files: FileSystem, path: str) -> None:
        self.path = path
        self._files = files
        with files.open(path) as file:
            self.metadata, self._sync, self._start = self._header(file)
        self.schema: dict[str, Any] = json.loads(self.metadata["avro.schema"])
        try:
            self.frames = Frames.unpack(self.metadata[_FRAMES])
        except (KeyError, ValueError, IndexError, zlib.error) as error:
            raise self._damaged(f"its index of frames: {error!r}") from error

    def text(self, key: str) -> str:
        return self.metadata[key].decode()

    def read(self, *, start: int, end: int | None) -> Iterator[tuple[int, int, int, bytes]]:
        """Offset, append time, number of items and their bytes of the frames from offset ``start`` to ``end`` (exclusive)."""
        decompress = decompressor(self.metadata.get("avro.codec", b"null").decode())
        counts = self.frames.counts.tolist()
        offsets = self.frames.offsets.tolist()
        place = 0
        with self._files.open(self.path) as file:
            file.seek(self._start)
            while place < len(offsets) and (end is None or offsets[place] < end):
                items, data = self._block(file)
                following = place
                while items > 0 and following < len(offsets):
                    items -= counts[following]
                    following += 1
                if items or following == place:
                    raise self._damaged("its blocks do not fit its index of frames")
                if offsets[following - 1] >= start:
                    for found in self._frames(decompress, data, slice(place, following)):
                        if start <= found[0] and (end is None or found[0] < end):
                            yield found
                place = following

    def _frames(self, decompress: Callable[[bytes], bytes], data: bytes, places: slice) -> Iterator[tuple[int, int, int, bytes]]:
        try:
            plain = decompress(data)
        except Exception as error:
            raise self._damaged(f"a block: {error!r}") from error
        columns = (self.frames.offsets, self.frames.append_times, self.frames.counts, self.frames.lengths)
        position = 0
        for offset, time, count, length in zip(*(column[places].tolist() for column in columns), strict=True):
            yield offset, time, count, plain[position : position + length]
            position += length
        if position != len(plain):
            raise self._damaged("a block is not as long as its frames")

    def _block(self, file: BinaryIO) -> tuple[int, bytes]:
        head = file.read(20)
        try:
            items, position = decode_long(head, 0)
            size, position = decode_long(head, position)
        except FrameError as error:
            raise self._damaged(f"a block: {error.message}") from error
        file.seek(position - len(head), os.SEEK_CUR)
        data = file.read(size)
        if len(data) != size or file.read(_SYNC_BYTES) != self._sync:
            raise self._damaged("a block does not end with the file's marker")
        return items, data

    def _header(self, file: BinaryIO) -> tuple[dict[str, bytes], bytes, int]:
        data = file.read(_HEADER_GUESS)
        while True:
            try:
                return _parse_header(data)
            except (FrameError, IndexError) as error:
                more = file.read(len(data))
                if not more:
                    raise self._damaged(f"its header: {error}") from error
                data += more

    def _damaged(self, what: str) -> StoreRefused:
        return StoreRefused(
            f"{self._files.url}/{self.path} is damaged: {what}", remedy="restore it, or copy its offsets from the log again"
        )


def _parse_header(data: bytes) -> tuple[dict[str, bytes], bytes, int]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise FrameError("not an Avro file")
    entries: dict[str, bytes] = {}
    number, position = decode_long(data, len(_MAGIC))
    while number:
        if number < 0:
            number = -number
            _, position = decode_long(data, position)
        for _ in range(number):
            key, position = _bytes(data, position)
            value, position = _bytes(data, position)
            entries[key.decode()] = value
        number, position = decode_long(data, position)
    end = position + _SYNC_BYTES
    if end > len(data):
        raise FrameError("ends inside its header")
    return entries, data[position:end], end


def _bytes(data: bytes, position: int) -> tuple[bytes, int]:
    length, start = decode_long(data, position)
    if length < 0 or start + length > len(data):
        raise FrameError(f"{length} bytes at byte {position} do not fit")
    return data[start : start + length], start + length
