"""Events to measure with: as many series as wanted, one event a millisecond in turn."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apache_beam as beam

from brokers import Message, Record, connect
from schemas.frame import assemble, encode_agent_fields
from schemas.registry import shipped
from schemas.varint import encode_long, encode_string
from transforms.admit import BEFORE_ALL, partition_key
from transforms.block import block_of, encode_block

TOPIC: Final = "bench.load.temperature"
START: Final = 1_700_000_000_000_000
#: µs between events.
STEP: Final = 1_000
_BATCH: Final = 500
#: Bytes of a block, as the source makes them.
_BLOCK: Final = 1_100_000


def frames(events: int, *, per_frame: int, series: int, step: int = STEP) -> Iterator[bytes]:
    """Frames of one gateway, an event every ``step`` µs; device N speaks every ``series`` events."""
    schema = shipped("Reading")
    channel = encode_string("temperature")
    devices = [encode_string(f"device-{number}") for number in range(series)]
    # Doubles as sensors give them: two decimals, a few thousand different ones.
    values = [struct.pack("<d", round(15 + number * 0.01, 2)) for number in range(3001)]
    for first in range(0, events, per_frame):
        items = []
        for seq in range(first, min(first + per_frame, events)):
            time = START + seq * step
            head = encode_agent_fields("gateway-1", 1_700_000_000_000, seq, time)
            items.append(head + devices[seq % series] + channel + encode_long(time) + values[seq * 7919 % 3001])
        yield assemble(schema, items)


def fill_log(folder: Path, events: int, *, per_frame: int, series: int) -> str:
    """Put a log into ``folder``; returns the URL of its broker."""
    url = f"local:{folder}"
    publisher = connect(url).publisher()
    batch: list[Message] = []
    for frame in frames(events, per_frame=per_frame, series=series):
        batch.append(Message(TOPIC, "gateway-1", frame))
        if len(batch) == _BATCH:
            publisher.publish(batch)
            batch = []
    if batch:
        publisher.publish(batch)
    publisher.close()
    return url


class FramesOf(beam.DoFn):
    """Path of a file in which every frame stands after its length; the frames out."""

    def process(self, path: str) -> Iterator[bytes]:
        data = Path(path).read_bytes()
        position = 0
        while position < len(data):
            end = position + 4 + int.from_bytes(data[position : position + 4], "little")
            yield data[position + 4 : end]
            position = end


class BlocksOf(beam.DoFn):
    """The same, as blocks keyed by their partition."""

    def process(self, path: str) -> Iterator[tuple[str, bytes]]:
        records: list[Record] = []
        size = 0
        for offset, frame in enumerate(FramesOf().process(path)):
            records.append(Record(offset, 0, "gateway-1", frame))
            size += len(frame)
            if size > _BLOCK:
                yield partition_key(TOPIC, 0), encode_block(block_of(TOPIC, 0, records, watermark=BEFORE_ALL))
                records, size = [], 0
        if records:
            yield partition_key(TOPIC, 0), encode_block(block_of(TOPIC, 0, records, watermark=BEFORE_ALL))
