"""Which partition of a log a key belongs to."""

from __future__ import annotations

from zlib import crc32


def partition_of(key: str, partitions: int) -> int:
    """CRC-32 (zlib) of the key's UTF-8 bytes modulo their count, as librdkafka's ``consistent`` partitioner has it."""
    return crc32(key.encode()) % partitions
