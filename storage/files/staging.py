"""What has been written stays written after a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


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
