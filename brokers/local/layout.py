"""Where a topic's files are, and how they come into being.

``DIR/TOPIC.log/N.sqlite`` is partition N. Partitions are numbered without holes. A topic appears with all its
first partitions at once, and each added later when its file is complete, so whoever sees them can use them.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from brokers.errors import BrokerUnavailable
from brokers.local.partition import make_partition_file
from schemas.topics import check_topic

_SUFFIX: Final = ".log"
_PARTITION: Final = re.compile(r"(0|[1-9][0-9]*)\.sqlite")


class Layout:
    """The files below one directory. ``url`` names the broker in errors."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url

    def topics(self) -> list[str]:
        """Sorted; empty while the directory does not exist."""
        try:
            names = [entry.name.removesuffix(_SUFFIX) for entry in os.scandir(self.directory) if entry.name.endswith(_SUFFIX)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self.unavailable("", error) from error
        return sorted(name for name in names if self.count(name))

    def count(self, topic: str) -> int:
        """How many partitions a topic has; 0 while it does not exist."""
        try:
            found = {int(match[1]) for path in self._folder(topic).iterdir() if (match := _PARTITION.fullmatch(path.name))}
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self.unavailable(topic, error) from error
        return next(number for number in range(len(found) + 1) if number not in found)

    def path(self, topic: str, partition: int) -> Path:
        return self._folder(topic) / f"{partition}.sqlite"

    def create(self, topic: str, partitions: int, *, deadline: float, closing: threading.Event | None = None) -> int:
        """Add the partitions that lack up to ``partitions``; return how many there are.

        ``deadline`` is of `time.monotonic`; ``closing`` ends it sooner. Raises `BrokerUnavailable`.
        """
        check_topic(topic)
        folder = self._folder(topic)
        try:
            self.directory.mkdir(exist_ok=True)
            with self._locked(topic, deadline, closing or threading.Event()):
                there = self.count(topic)
                if folder.exists():
                    self._add(folder, there, partitions)
                elif partitions:
                    draft = self.directory / f".draft-{topic}.new"
                    shutil.rmtree(draft, ignore_errors=True)
                    draft.mkdir()
                    self._add(draft, 0, partitions)
                    draft.rename(folder)
                _sync_directory(self.directory)
                return max(there, partitions)
        except OSError as error:
            raise self.unavailable(topic, error) from error

    def unavailable(self, topic: str, error: BaseException) -> BrokerUnavailable:
        """The error for a directory or a file that cannot be used."""
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{self.url}: topic {topic!r}" if topic else self.url
        return BrokerUnavailable(
            f"{where}: {getattr(error, 'filename', None) or self._folder(topic) if topic else self.directory}: {reason}",
            remedy=f"see that the directory above {self.directory} exists, is on a local disk and may be written by this user",
        )

    @staticmethod
    def _add(folder: Path, first: int, end: int) -> None:
        """Make partitions ``first … end - 1``."""
        for number in range(first, end):
            draft = folder / f".draft-{number}"
            draft.unlink(missing_ok=True)
            make_partition_file(draft)
            draft.rename(folder / f"{number}.sqlite")
        _sync_directory(folder)

    def _folder(self, topic: str) -> Path:
        return self.directory / (topic + _SUFFIX)

    @contextmanager
    def _locked(self, topic: str, deadline: float, closing: threading.Event) -> Iterator[None]:
        descriptor = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline or closing.wait(random.uniform(0.001, 0.01)):
                        raise self.unavailable(topic, error) from error
            yield
        finally:
            os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
