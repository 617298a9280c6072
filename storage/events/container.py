"""Avro object container files (Avro 1.12 specification, "Object Container Files") of events that are already encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import numpy as np
import polars as pl

from schemas.errors import FrameError
from schemas.varint import decode_long, encode_long
from storage.errors import StoreRefused
from storage.files.codecs import Codec, compressor, decompressor

_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_BLOCK_BYTES: Final = 256 * 1024


def write_events(file: BinaryIO, schema: str, events: pl.Series, *, codec: Codec, level: int, limit: int) -> int:
    """Write a container of as many of ``events``, at least a block, as make about ``limit`` bytes; returns how many.

    ``schema`` is JSON; ``events`` are binary.
    """
    compress = compressor(codec, level)
    sync = os.urandom(_SYNC_BYTES)
    size = file.write(_header(schema, codec, sync))
    offsets, data = _buffers(events)
    start = 0
    while start < len(events) and (start == 0 or size < limit):
        end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _BLOCK_BYTES, side="right")) - 1)
        end = min(end, len(events))
        block = compress(bytes(data[int(offsets[start]) : int(offsets[end])]))
        size += file.write(b"".join((encode_long(end - start), encode_long(len(block)), block, sync)))
        start = end
    return start


def _header(schema: str, codec: str, sync: bytes) -> bytes:
    entries = {b"avro.schema": schema.encode(), b"avro.codec": codec.encode()}
    texts = [part for entry in entries.items() for part in entry]
    return b"".join((_MAGIC, encode_long(len(entries)), *(encode_long(len(text)) + text for text in texts), b"\0", sync))


def _buffers(events: pl.Series) -> tuple[Any, memoryview]:
    array: Any = events.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, np.int64, len(array) + 1, array.offset * 8)
    return offsets, memoryview(data) if data is not None else memoryview(b"")


def read_blocks(file: BinaryIO, *, origin: str) -> Iterator[tuple[int, bytes]]:
    """Number of events and their bytes of each block. Raises `StoreRefused` for a damaged file."""
    data = file.read()
    try:
        codec, sync, position = _parse(data)
        decompress = decompressor(codec)
        while position < len(data):
            count, position = decode_long(data, position)
            size, position = decode_long(data, position)
            end = position + size
            if count < 1 or size < 0 or data[end : end + _SYNC_BYTES] != sync:
                raise FrameError("a block does not end with the file's marker")
            yield count, decompress(data[position:end])
            position = end + _SYNC_BYTES
    except (FrameError, IndexError, ValueError, KeyError) as error:
        raise damaged(origin, error) from error


def _parse(data: bytes) -> tuple[str, bytes, int]:
    """Codec, marker and where the first block begins."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise FrameError("not an Avro file")
    number, position = decode_long(data, len(_MAGIC))
    entries = {}
    for _ in range(number):
        key, position = _bytes(data, position)
        entries[key], position = _bytes(data, position)
    position += 1
    return entries[b"avro.codec"].decode(), data[position : position + _SYNC_BYTES], position + _SYNC_BYTES


def _bytes(data: bytes, position: int) -> tuple[bytes, int]:
    length, start = decode_long(data, position)
    if length < 0 or start + length > len(data):
        raise FrameError(f"{length} bytes at byte {position} do not fit")
    return data[start : start + length], start + length


def damaged(origin: str, error: object) -> StoreRefused:
    return StoreRefused(
        f"{origin} is damaged: {error}", remedy="restore it; or remove its hour and compact it again from the journal"
    )
