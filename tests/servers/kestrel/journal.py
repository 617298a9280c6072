"""The journal of one queue: its operations in the order they were made. Made again from the start, they give the queue.

A record is, little-endian: CRC-32 of all that follows (u32), length of the data (u32), operation (u8), number (u64), data.
Whatever is torn or damaged ends the journal: it is cut off there when it is opened. Only our own test server reads it.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

_HEAD: Final = struct.Struct("<IIBQ")
_CRC: Final = struct.Struct("<I")


class Operation(enum.IntEnum):
    """What was done, and what the record's number means."""

    ADD = 0  #: At the end; number: expiry in ms since 1970, 0 for never.
    REMOVE = 1  #: From the head, for good.
    OPEN = 2  #: From the head, set aside; number: transaction.
    BACK = 3  #: What was set aside, to the head; number: transaction.
    CONFIRM = 4  #: What was set aside, gone for good; number: transaction.


class Entry(NamedTuple):
    operation: Operation
    number: int = 0
    data: bytes = b""


class Journal:
    """Entries are appended in memory and written by `write`, which whoever answers a client calls before it does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = bytearray()
        self._unsynced = False
        #: Bytes in the file and on their way to it.
        self.size = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def replay(self) -> list[Entry]:
        """What is in the file. Cuts off a torn tail."""
        content = self._path.read_bytes()
        entries, end = [], 0
        while len(content) - end >= _HEAD.size:
            crc, length, operation, number = _HEAD.unpack_from(content, end)
            after = end + _HEAD.size + length
            if after > len(content) or crc32(content[end + _CRC.size : after]) != crc or operation > Operation.CONFIRM:
                break
            entries.append(Entry(Operation(operation), number, content[after - length : after]))
            end = after
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        self.size = end
        return entries

    def append(self, operation: Operation, number: int = 0, data: bytes = b"") -> None:
        record = _record(operation, number, data)
        self._waiting += record
        self.size += len(record)

    def write(self) -> None:
        """From here on a killed process loses nothing of what was appended; a power failure may."""
        if self._waiting:
            _write_all(self._file, self._waiting)
            self._waiting = bytearray()
            self._unsynced = True

    def sync(self) -> None:
        """From here on a power failure loses nothing either."""
        if self._unsynced:
            os.fdatasync(self._file)
            self._unsynced = False

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace all by ``entries``, at once: whoever is killed leaves the old journal or the new one."""
        fresh = self._path.with_name(self._path.name + "~~")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        content = b"".join(_record(*entry) for entry in entries)
        _write_all(file, content)
        os.fsync(file)
        fresh.rename(self._path)
        os.close(self._file)
        self._file, self._waiting, self._unsynced, self.size = file, bytearray(), False, len(content)

    def close(self) -> None:
        os.close(self._file)

    def erase(self) -> None:
        self.close()
        self._path.unlink()


def _record(operation: Operation, number: int, data: bytes) -> bytes:
    record = _HEAD.pack(0, len(data), operation, number) + data
    return _CRC.pack(crc32(record[_CRC.size :])) + record[_CRC.size :]


def _write_all(file: int, content: bytes | bytearray) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
