"""From events encoded by drivers to frames.

The agent's own four fields differ between events of a frame only in seq. Its variable-length integer is a
low group of seven bits, which takes 64 values, and a rest that is the same for 64 events in a row: so what
precedes an event is put together from prepared pieces instead of being encoded anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from gateway_agent.outbox.records import Built
from schemas.fingerprint import MAGIC
from schemas.frame import MAX_EVENTS
from schemas.varint import encode_long, encode_string

#: Bytes a frame has beside its events, at most: prefix, count, end.
_AROUND: Final = 24


class Framer:
    """Builds the frames of one gateway and epoch."""

    def __init__(self, gateway: str, epoch: int) -> None:
        prefix = encode_string(gateway) + encode_long(epoch)
        self._last = [prefix + bytes((2 * seq,)) for seq in range(64)]
        self._more = [prefix + bytes((2 * seq | 0x80,)) for seq in range(64)]
        #: Bytes of the agent's fields before an event, at most.
        self.head_bytes = len(prefix) + 20

    def size(self, tails: Sequence[bytes]) -> int:
        """What frames of these events take, at most."""
        return sum(map(len, tails)) + len(tails) * self.head_bytes + _AROUND * (1 + len(tails) // MAX_EVENTS)

    def frames(self, fingerprint: bytes, tails: Sequence[bytes], *, first: int, time: int, max_bytes: int) -> Iterator[Built]:
        """Frames of the events ``first …``, accepted at ``time`` (µs since 1970, UTC)."""
        gateway_time = encode_long(time)
        for start, end in self._cuts(tails, max_bytes):
            items = self._items(tails[start:end], first + start, gateway_time)
            body = b"".join((MAGIC, fingerprint, encode_long(end - start), *items, b"\0"))
            yield Built(first + start, end - start, body)

    def _cuts(self, tails: Sequence[bytes], max_bytes: int) -> Iterator[tuple[int, int]]:
        if len(tails) <= MAX_EVENTS and self.size(tails) <= max_bytes:
            yield 0, len(tails)
            return
        start, size = 0, _AROUND
        for position, tail in enumerate(tails):
            more = len(tail) + self.head_bytes
            if position > start and (position - start == MAX_EVENTS or size + more > max_bytes):
                yield start, position
                start, size = position, _AROUND
            size += more
        yield start, len(tails)

    def _items(self, tails: Sequence[bytes], first: int, gateway_time: bytes) -> list[bytes]:
        items: list[bytes] = []
        rest = iter(tails)
        seq, end = first, first + len(tails)
        while seq < end:
            block, offset = divmod(seq, 64)
            heads = self._more if block else self._last
            between = _unsigned(block) + gateway_time if block else gateway_time
            take = min(64 - offset, end - seq)
            items += [head + between + tail for head, tail in zip(heads[offset : offset + take], islice(rest, take), strict=True)]
            seq += take
        return items


def _unsigned(number: int) -> bytes:
    """Groups of seven bits, lowest first: an Avro integer without its zig-zag."""
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
