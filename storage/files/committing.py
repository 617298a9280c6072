"""Appends come into being whole and one after another, whoever writes, on any file system that can rename without replacing.

Where an append goes depends on the last one and on its hour, which two writers may judge differently. So they contend for one
name, the partition's slot: ``.next``. A writer fills a directory aside, moves it into the slot, and from there to its place if
it follows the last append, else it is thrown away. Invariants:

- While something is in the slot, nothing else becomes an append. So whether it follows cannot change, and it does not matter who
  looks: any writer that finds the slot taken, also by one that died, finishes for it and then tries again.
- What is in the slot has a name that is never used again: a writer that was held up acts on nothing but what it looked at.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from typing import Final

import stamina

from storage.errors import StoreError, StoreUnavailable
from storage.files import layout
from storage.files.container import Container
from storage.files.filesystem import FileSystem

#: The metadata by which a writer knows its own append again.
MARK: Final = "iotcloud.append"
_STAGING: Final = ".staging"
_SLOT: Final = ".next"
#: Seconds for which others may be before us.
_PATIENCE: Final = 60.0
#: Seconds after which what lies aside is taken for abandoned.
_ABANDONED: Final = 3600.0


class _Taken(StoreUnavailable):
    """Another writer's append is in the slot."""


def new_mark() -> str:
    return uuid.uuid4().hex


def commit(files: FileSystem, partition: str, content: Mapping[str, bytes], *, hour: str, first: int, mark: str) -> bool:
    """Make ``content`` (by file names) the append at ``first``. False, leaving nothing, when it does not follow the last one.

    ``hour`` is as `layout.hour_of` gives it; ``mark`` is new and in the metadata of every file. Raises `StoreError`.
    """
    staging = f"{_STAGING}/{mark}"
    inside = f"{hour.replace('/', '.')}.{mark}"
    try:
        for name, data in content.items():
            files.create(f"{staging}/{inside}/{name}", data)
        if files.names(f"{staging}/{inside}") != sorted(content):
            raise StoreUnavailable(f"{files.url}: {staging} was cleared away while it was being filled")
        _move_into_slot(files, staging, partition)
    except BaseException:
        # The next writer clears it, where this one cannot.
        with contextlib.suppress(StoreError):
            files.delete(staging)
        raise
    settled = _settle(files, partition)
    return settled[inside] if inside in settled else _is_ours(files, partition, first, mark)


def clear_abandoned(files: FileSystem) -> None:
    """Remove what writers that died have left aside."""
    own = f"{_STAGING}/{new_mark()}"
    found = files.names(_STAGING)
    if not found:
        return
    files.create(own, b"")
    now = files.modified(own)
    files.delete(own)
    for name in found:
        with contextlib.suppress(FileNotFoundError):
            if now - files.modified(f"{_STAGING}/{name}") > _ABANDONED:
                # Deleting a directory may take several steps; its writer, should it live, finds it whole or not at all.
                files.rename(f"{_STAGING}/{name}", own)
                files.delete(own)


def _move_into_slot(files: FileSystem, staging: str, partition: str) -> None:
    slot = f"{partition}/{_SLOT}"
    for attempt in stamina.retry_context(
        on=_Taken, attempts=None, timeout=_PATIENCE, wait_initial=0.002, wait_max=0.1, wait_jitter=0.01
    ):
        with attempt:
            try:
                if files.rename(staging, slot):
                    return
            except FileNotFoundError as error:
                raise StoreUnavailable(f"{files.url}: {staging} was cleared away before it was moved to {partition}") from error
            _settle(files, partition)
            raise _Taken(f"{files.url}: other writers have kept {slot} for {_PATIENCE:g} s", remedy="do the writers still run?")


def _settle(files: FileSystem, partition: str) -> dict[str, bool]:
    """Empty the slot. Whether what was in it has become an append, by its name, as far as it was done here."""
    slot = f"{partition}/{_SLOT}"
    done: dict[str, bool] = {}
    for name in files.names(slot):
        # In this order: as it is still in the slot afterwards, it was there meanwhile, and the last append is the last.
        last = layout.last_append(files, partition)
        waiting = layout.append_at(files, f"{slot}/{name}")
        if not waiting.files:
            # Moved by another writer meanwhile, or thrown away by one that died doing so.
            files.delete_empty(waiting.path)
        elif last is None or last.next == waiting.first:
            date, hour, _ = name.split(".", 2)
            if last is not None and not last.files:
                files.delete_empty(last.path)
            # False or gone: another writer was faster.
            with contextlib.suppress(FileNotFoundError):
                if files.rename(waiting.path, layout.append_path(partition, f"{date}/{hour}", last, waiting.first)):
                    done[name] = True
        else:
            files.delete(waiting.path)
            done[name] = False
    files.delete_empty(slot)
    return done


def _is_ours(files: FileSystem, partition: str, first: int, mark: str) -> bool:
    """Whether another writer has made an append of what we had in the slot."""
    for append in layout.appends(files, partition, first):
        if append.first == first and append.files:
            return Container(files, f"{append.path}/{append.files[0]}").metadata.get(MARK) == mark.encode()
    return False
