"""The share that one reader has in the messages of one topic for one group."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from iotcloud_spool.directory import LockedTopic, Name, sync, try_lock


class Share:
    """Made, and used but for `acknowledge` and `leave`, while the topic is locked."""

    def __init__(self, locked: LockedTopic, group: str) -> None:
        self._group = locked.add_group(group)
        self._waiting = self._group / "waiting"
        self._mine = self._group / f"{uuid.uuid4().hex}.reader"
        # As long as this file is open the reader lives: the kernel lets go of the lock however the process ends.
        self._alive = os.open(self._mine.with_suffix(".alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try_lock(self._alive)
        self._mine.mkdir()
        locked.sweep()

    def take(self, most: int) -> list[Path]:
        """The next messages, none of them of a key of which another reader holds some."""
        elsewhere: set[str] = set()
        for reader in self._group.glob("*.reader"):
            if reader != self._mine:
                self._take_over(reader)
                elsewhere.update(Name.of(file).key for file in reader.glob("*"))
        taken: list[Path] = []
        for file in sorted(self._waiting.iterdir()):
            if len(taken) >= most:
                break
            if Name.of(file).key not in elsewhere:
                taken.append(file.rename(self._mine / file.name))
        return taken

    def acknowledge(self, names: Iterable[str]) -> None:
        for name in names:
            (self._mine / name).unlink(missing_ok=True)
        sync(self._mine)

    def give_back(self, names: Iterable[str]) -> None:
        for name in names:
            self._give_back(self._mine / name)

    def dissolve(self) -> None:
        """Give everything back."""
        self._dissolve(self._mine)

    def leave(self) -> None:
        """From here on this reader counts as dead. Needs no lock."""
        os.close(self._alive)

    def _take_over(self, reader: Path) -> None:
        """Let the group have what a reader held that died."""
        handle = os.open(reader.with_suffix(".alive"), os.O_RDWR | os.O_CLOEXEC)
        try:
            if try_lock(handle):
                self._dissolve(reader)
        finally:
            os.close(handle)

    def _dissolve(self, reader: Path) -> None:
        for file in reader.iterdir():
            self._give_back(file)
        reader.rmdir()
        reader.with_suffix(".alive").unlink()

    def _give_back(self, file: Path) -> None:
        name = Name.of(file)
        file.rename(self._waiting / str(name._replace(times=name.times + 1)))
