"""What an item holds: a Kestrel item is bytes, so key and order of a message travel in front of its value.

====== ==================================================================
bytes  big-endian
====== ==================================================================
3      ``8A 49 51``
1      version, 1
8      run: random, the same for all that one publisher publishes
8      number of the message within the run, rising
2      length of the key
…      key, UTF-8
…      value, to the end of the item
====== ==================================================================

Run and number are there because a server gives back in reverse order what a reader held that is gone: whoever reads it
next can put it right (`in_order`). An item without this beginning, put there by others, is a value without a key.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

RUN_BYTES: Final = 8
LONGEST_KEY: Final = 0xFFFF
_MAGIC: Final = b"\x8aIQ\x01"
_HEAD: Final = struct.Struct(f">4s{RUN_BYTES}sQH")


class Numbered(Protocol):
    @property
    def run(self) -> bytes: ...
    @property
    def number(self) -> int: ...


N = TypeVar("N", bound=Numbered)


def head(run: bytes, number: int, key: bytes) -> bytes:
    """What precedes the value."""
    return _HEAD.pack(_MAGIC, run, number, len(key)) + key


def open_item(item: bytes) -> tuple[bytes, int, str, bytes]:
    """Run, number, key and value. The run of an item that is not ours is empty.

    One that is foreign, damaged or of a later version is all value: so it can be found.
    """
    if len(item) < _HEAD.size:
        return b"", 0, "", item
    magic, run, number, length = _HEAD.unpack_from(item)
    start = _HEAD.size + length
    if magic != _MAGIC or start > len(item):
        return b"", 0, "", item
    try:
        return run, number, item[_HEAD.size : start].decode(), item[start:]
    except UnicodeDecodeError:
        return b"", 0, "", item


def in_order(items: Sequence[N]) -> list[N]:
    """``items`` with those of each run in the order of their numbers, in the places that this run has."""
    last: dict[bytes, int] = {}
    for item in items:
        if item.number < last.get(item.run, 0):
            break
        last[item.run] = item.number
    else:
        return list(items)
    runs: dict[bytes, list[N]] = {}
    for item in items:
        runs.setdefault(item.run, []).append(item)
    for run, members in runs.items():
        if run:
            members.sort(key=lambda member: member.number)
    turns = {run: iter(members) for run, members in runs.items()}
    return [next(turns[item.run]) for item in items]
