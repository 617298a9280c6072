"""Where things are below the directory of a spool, and the lock that keeps processes apart.

    DIR/TOPIC.topic/lock                     whoever changes something in the topic holds it (flock)
                    next                     the number of the next message
                    writing/                 messages that are not published yet
                    GROUP.group/waiting/     messages for the group, as NUMBER.KEY.TIMES
                    GROUP.group/ID.reader/   what a reader has taken and not acknowledged
                    GROUP.group/ID.alive     locked as long as that reader lives

KEY is a checksum of the key; TIMES says how often the message was given back. A message has one file, with a
name (a hard link) in every group. Invariants: names in ``waiting`` rise in the order of publishing; a message is in
``waiting`` or with one reader; all messages of a key that are not waiting are with the same reader.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from brokers.backoff import Backoff
from brokers.errors import BrokerUnavailable
from schemas.errors import ConfigurationError
from schemas.topics import check_topic

_LONGEST_NAME: Final = 240
#: Seconds after which a file that was not published belongs to a publisher that died.
_ABANDONED: Final = 3_600.0


class Spool:
    """The directory; ``url`` is how errors name it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url

    def topic(self, topic: str) -> Topic:
        """Raises `ConfigurationError` for a wrong name."""
        return Topic(self.directory / f"{check_topic(topic)}.topic")

    @contextmanager
    def describing(self, topic: str) -> Iterator[None]:
        """Errors of the operating system as `BrokerUnavailable`."""
        try:
            yield
        except OSError as error:
            raise BrokerUnavailable(
                f"{self.url}: topic {topic!r}: {error}",
                remedy=f"see that {self.directory} is a directory that can be written, with space left",
            ) from error


class Name(NamedTuple):
    """What the name of a message's file says."""

    number: int
    key: str
    times: int

    @classmethod
    def of(cls, path: Path) -> Name:
        number, key, times = path.name.split(".")
        return cls(int(number), key, int(times))

    def __str__(self) -> str:
        return f"{self.number:020d}.{self.key}.{self.times}"


class Topic:
    """The directory of one topic."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writing = directory / "writing"

    def create(self) -> None:
        self.writing.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self, deadline: float, closing: threading.Event) -> Iterator[LockedTopic]:
        """The topic, made if need be, with nobody else in it.

        Raises `TimeoutError` at the ``deadline`` (of the monotonic clock), and when ``closing`` is set meanwhile.
        """
        self.create()
        handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            pauses = Backoff(first=0.001, longest=0.05)
            while not try_lock(handle):
                if time.monotonic() >= deadline or closing.wait(pauses.next()):
                    raise TimeoutError(f"{self.directory} is locked by another process")
            yield LockedTopic(self.directory)
        finally:
            os.close(handle)


class LockedTopic:
    """What may be done to a topic while it is locked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def groups(self) -> list[Path]:
        return list(self._directory.glob("*.group"))

    def add_group(self, group: str) -> Path:
        """The directory of a group, made if need be. Raises `ConfigurationError` for a name that makes none."""
        directory = self._directory_of(group)
        if not directory.exists():
            (directory / "waiting").mkdir(parents=True)
            sync(directory)
            sync(self._directory)
        return directory

    def remove_group(self, group: str) -> None:
        """Nothing happens when it is not there."""
        directory = self._directory_of(group)
        if directory.exists():
            shutil.rmtree(directory)
            sync(self._directory)

    def _directory_of(self, group: str) -> Path:
        name = quote(group, safe="")
        if not name or len(name) > _LONGEST_NAME:
            raise ConfigurationError(f"{group!r} is no name of a group", remedy=f"1 to {_LONGEST_NAME} letters")
        return self._directory / f"{name}.group"

    def sweep(self) -> None:
        """Remove what publishers that died have left in ``writing``."""
        for file in (self._directory / "writing").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - _ABANDONED:
                    file.unlink()

    def numbers(self, count: int) -> range:
        """Numbers that no message has had. Taken before they are used: what dies in between leaves a hole."""
        counter = self._directory / "next"
        first = int(counter.read_text()) if counter.exists() else 0
        fresh = counter.with_suffix(".new")
        write(fresh, str(first + count).encode())
        fresh.rename(counter)
        sync(self._directory)
        return range(first, first + count)


def try_lock(handle: int) -> bool:
    """Whether the lock on an open file could be had. It ends when the file is closed, or its process dies."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write(path: Path, content: bytes) -> None:
    """A file whose content is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Put the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
