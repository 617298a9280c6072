"""`FileSystem` on the local disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from storage.errors import StoreFull, StoreUnavailable
from storage.files.staging import make_durably, synchronise

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LocalDisk:
    """See `storage.files.filesystem.FileSystem`. Below the directory ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        return f"files:{self._root}"

    def names(self, folder: str) -> list[str]:
        with self._named():
            try:
                return sorted(path.name for path in (self._root / folder).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def create(self, path: str, data: bytes) -> None:
        target = self._root / path
        with self._named():
            make_durably(target.parent)
            part = target.with_name(f".{target.name}.part")
            try:
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(target)
            finally:
                part.unlink(missing_ok=True)
            synchronise(target.parent)

    def open(self, path: str) -> BinaryIO:
        with self._named(but=FileNotFoundError):
            return (self._root / path).open("rb")

    def rename(self, source: str, target: str) -> bool:
        place = self._root / target
        with self._named(but=FileNotFoundError):
            make_durably(place.parent)
            try:
                # rename(2) replaces no directory that holds something.
                (self._root / source).rename(place)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            synchronise(place.parent)
            return True

    def delete(self, path: str) -> None:
        target = self._root / path
        with self._named(), contextlib.suppress(FileNotFoundError):
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()

    def delete_empty(self, folder: str) -> None:
        with self._named():
            try:
                (self._root / folder).rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise

    def modified(self, path: str) -> float:
        with self._named(but=FileNotFoundError):
            return (self._root / path).stat().st_mtime

    def check(self) -> None:
        folder = self._root.absolute()
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"{self.url}: {folder} is not a directory this user can write to", remedy="name another one")

    def close(self) -> None:
        """Nothing is kept open."""

    @contextmanager
    def _named(self, *, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        """Errors of the operating system as those of stores, except ``but``."""
        try:
            yield
        except OSError as error:
            if isinstance(error, but):
                raise
            where = f"{self.url}: {error}"
            if error.errno in NO_ROOM:
                raise StoreFull(where, remedy="free space; nothing of this was kept, it can be tried again") from error
            raise StoreUnavailable(where, remedy="is the folder there and writable for this user?") from error
