"""Where a subscriber is in the partitions of a log, kept by whoever subscribes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from brokers.errors import BrokerUnavailable
from schemas.errors import ConfigurationError

#: A topic and a partition of it.
Place = tuple[str, int]


class Positions(Protocol):
    """The next offset to read per topic and partition."""

    def load(self, topic: str, partition: int) -> int | None:
        """The position stored last, or None when none ever was."""

    def store(self, positions: Mapping[Place, int]) -> None:
        """Keep these; they are as durable as the caller needs when this returns. Raises `BrokerUnavailable`."""


class MemoryPositions:
    """Positions that die with the process: for a subscriber that wants only what comes from now on."""

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}

    def load(self, topic: str, partition: int) -> int | None:
        return self._next.get((topic, partition))

    def store(self, positions: Mapping[Place, int]) -> None:
        self._next.update(positions)


class FilePositions:
    """Positions in a JSON file, replaced as a whole and on disk when `store` returns.

    One process at a time: the file is locked while this is open. Raises `ConfigurationError` when another
    process holds it, or when it cannot be read.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._lock = self._take_lock()
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self._next: dict[Place, int] = {
                (str(topic), int(partition)): int(offset)
                for topic, offsets in stored.items()
                for partition, offset in offsets.items()
            }
        except FileNotFoundError:
            self._next = {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            self.close()
            raise ConfigurationError(
                f"{path}: cannot be read as positions: {error}",
                remedy="remove it to begin anew, or restore it from a copy",
            ) from error

    def load(self, topic: str, partition: int) -> int | None:
        return self._next.get((topic, partition))

    def store(self, positions: Mapping[Place, int]) -> None:
        """Raises `BrokerUnavailable` when the file cannot be written: the one on disk is then as it was, and the next call
        stores these too."""
        self._next.update(positions)
        offsets: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in sorted(self._next.items()):
            offsets.setdefault(topic, {})[str(partition)] = offset
        draft = self._path.with_name(self._path.name + ".draft")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(offsets, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            raise BrokerUnavailable(
                f"{self._path}: positions cannot be stored: {error.strerror}",
                remedy=f"free space at {self._path.parent}, and see that it may be written; it is tried again",
            ) from error

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> int:
        path = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}", remedy="give a place that may be written") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ConfigurationError(
                f"{self._path}: another process reads on from these positions",
                remedy="stop it, or give this one a name of its own",
            ) from error
        return lock
