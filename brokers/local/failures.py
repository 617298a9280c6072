"""What SQLite's errors mean for who uses the broker."""

from __future__ import annotations

import sqlite3
from typing import Final

from brokers.errors import BrokerRefused, BrokerUnavailable
from brokers.local.layout import Layout
from brokers.local.partition import WrongFormat

_WRITE_FAILED: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def disk_full(error: BaseException) -> bool:
    """Whether the file could not grow: no space left, or a quota or limit on its size."""
    return isinstance(error, sqlite3.Error) and _code(error) in _WRITE_FAILED


def describe(layout: Layout, topic: str, partition: int, error: Exception) -> BrokerUnavailable | BrokerRefused:
    """The broker error for what ``error`` says about a partition."""
    where = f"{layout.url}: topic {topic!r}, partition {partition}"
    path = layout.path(topic, partition)
    if isinstance(error, WrongFormat):
        return BrokerRefused(f"{where}: {path} {error}", remedy="use the version of iotcloud that has written it, or a later one")
    if isinstance(error, sqlite3.Error) and _code(error) in _DAMAGED:
        return BrokerRefused(
            f"{where}: {path} is damaged: {error}",
            remedy=f"save what can be with: sqlite3 {path} .recover",
        )
    if disk_full(error):
        return BrokerUnavailable(
            f"{where}: cannot write {path}, the disk is full or failing: {error}",
            remedy=f"free space below {layout.directory}, or lower retention_bytes; writing goes on by itself",
        )
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{where}: {error}", remedy="see which process holds it with: fuser " + str(path))
    return layout.unavailable(topic, error)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
