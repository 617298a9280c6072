"""Directories that come into being whole: made aside, synchronised to disk, then renamed to where nothing is yet."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.errors import StoreUnavailable

_STAGING: Final = ".staging"
_PAUSE: Final = 0.01


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A new directory to fill, gone again on leaving unless `commit` has moved it."""
    path = root / _STAGING / uuid.uuid4().hex
    path.mkdir(parents=True)
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(handle)
        shutil.rmtree(path, ignore_errors=True)


def commit(staging: Path, target: Path) -> bool:
    """Move a filled directory to ``target``, durably. False when there is one already.

    rename(2) replaces no directory that holds something, and one that was committed holds something.
    """
    for file in staging.iterdir():
        synchronise(file)
    synchronise(staging)
    make_durably(target.parent)
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    synchronise(target.parent)
    return True


def clear_abandoned(root: Path) -> None:
    """Remove what writers that died have left; a living one holds a lock on its own."""
    folder = root / _STAGING
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            # Between being made and being locked a directory of the living is unlocked, and young.
            if time.time() - path.stat().st_mtime > 60:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(handle)


@contextmanager
def alone(folder: Path, *, timeout: float) -> Iterator[None]:
    """Hold the lock of a directory, which is made when needed. Raises `StoreUnavailable` after ``timeout`` seconds."""
    make_durably(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreUnavailable(
                        f"{folder}: another writer has held it for {timeout:g} s", remedy=f"see which with: fuser {folder}"
                    ) from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)


def make_durably(folder: Path) -> None:
    """Make a directory and those above it, each known to its parent after a loss of power."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        synchronise(path.parent)


def synchronise(path: Path) -> None:
    """fsync a file or a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
