"""`Files` on the local disk."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from storage.errors import StoreFull, StoreRefused, StoreUnavailable
from storage.files.local import NO_ROOM
from storage.files.staging import make_durably, synchronise

_STAGING: Final = "events/.staging"
_LOCK: Final = "events/.lock"
#: Below it in a staging directory lies what was taken out of its place, under its own path.
_TAKEN: Final = "taken"
#: How often a directory may be swapped while it is looked into.
_MOST_ROUNDS: Final = 20
#: renameat2(2).
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_CANNOT_EXCHANGE: Final = (errno.EINVAL, errno.ENOSYS, errno.EPERM)


class LocalFiles:
    """See `storage.events.files.Files`. Below the directory ``root``."""

    def __init__(self, root: str | Path, *, exchange: bool = True) -> None:
        """``exchange`` False never exchanges two directories at once, as some file systems cannot."""
        self._root = Path(root)
        self._exchange = exchange

    @property
    def url(self) -> str:
        return f"files:{self._root}"

    def open(self, path: str) -> BinaryIO:
        target = self._root / path
        with self._named(path, but=FileNotFoundError):
            for _ in range(_MOST_ROUNDS):
                before = _identity(target.parent)
                try:
                    return target.open("rb")
                except FileNotFoundError:
                    if _identity(target.parent) == before:
                        raise
            return target.open("rb")

    @contextmanager
    def create(self, path: str, *, durable: bool = True) -> Iterator[BinaryIO]:
        with self._named(path), (self._root / path).open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def list(self, path: str) -> list[str]:
        with self._named(path):
            names: list[str] = []
            for _ in range(_MOST_ROUNDS):
                before = _identity(self._root / path)
                try:
                    names = sorted(found.name for found in (self._root / path).iterdir())
                except (FileNotFoundError, NotADirectoryError):
                    names = []
                if _identity(self._root / path) == before:
                    break
            return names

    def replace(self, path: str, data: bytes) -> None:
        staged = self.stage()
        with self.create(f"{staged}/file") as file:
            file.write(data)
        target = self._root / path
        with self._named(path):
            make_durably(target.parent)
            (self._root / staged / "file").replace(target)
            synchronise(target.parent)
            (self._root / staged).rmdir()

    def stage(self) -> str:
        path = f"{_STAGING}/{uuid.uuid4().hex}"
        with self._named(path):
            (self._root / path).mkdir(parents=True)
        return path

    def swap(self, staged: str, target: str) -> None:
        new, old = self._root / staged, self._root / target
        with self._named(target):
            synchronise(new)
            make_durably(old.parent)
            if not old.is_dir():
                new.rename(old)
            elif not (self._exchange and _exchanged(new, old)):
                aside = self._root / self.stage() / _TAKEN / target
                make_durably(aside.parent)
                old.rename(aside)
                synchronise(aside.parent)
                new.rename(old)
                new = aside
            synchronise(old.parent)
            shutil.rmtree(new, ignore_errors=True)

    def remove(self, path: str) -> None:
        with self._named(path):
            aside = self._root / self.stage()
            (self._root / path).rename(aside / "removed")
            synchronise((self._root / path).parent)
            shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[str]:
        lock = self._root / _LOCK
        with self._named(_LOCK):
            make_durably(lock.parent)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreRefused(
                    f"{self.url}: another job is changing these events", remedy=f"wait for it; see which with: fuser {lock}"
                ) from error
            yield ""
        finally:
            os.close(handle)

    def recover(self) -> None:
        staging = self._root / _STAGING
        if not staging.is_dir():
            return
        with self._named(_STAGING):
            for taken in staging.glob(f"*/{_TAKEN}"):
                for old in taken.glob("events/*/*/*"):
                    target = self._root / old.relative_to(taken)
                    if not target.exists():
                        old.rename(target)
                        synchronise(target.parent)
            shutil.rmtree(staging)

    @contextmanager
    def _named(self, path: str, *, but: type[OSError] | None = None) -> Iterator[None]:
        """Errors of the file system as those of stores, except ``but``."""
        try:
            yield
        except OSError as error:
            if but is not None and isinstance(error, but):
                raise
            where = f"{self._root / path}: {error.strerror or error}"
            if error.errno in NO_ROOM:
                raise StoreFull(where, remedy="free space and run it again; what was there before is as it was") from error
            raise StoreUnavailable(where, remedy="is the folder there, and may this user write to it?") from error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a directory from another that was put in its place: who still looks into the old one may find it emptied."""
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_ctime_ns


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two directories at once; False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))
