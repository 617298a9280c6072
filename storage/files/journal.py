"""`FilesJournal`: raw records of logs in Avro files. See `storage.files.layout` for where they lie."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from schemas.errors import ConfigurationError
from schemas.fingerprint import MAGIC
from schemas.registry import Schemas
from schemas.varint import encode_long
from settings import Bytes, convert
from storage.contract import Extent, JournalRecord
from storage.errors import Overtaken, StoreFull, StoreUnavailable
from storage.files import layout, letters
from storage.files.codecs import Codec, check_level
from storage.files.container import Container, Frames, Ints, write_container
from storage.files.frames import FrameSorter, Kind, as_ints
from storage.files.staging import alone, clear_abandoned, commit, staged

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PATIENCE: Final = 30.0


class FilesOptions(msgspec.Struct, frozen=True):
    """What a ``files:`` URL may say after its ``?``."""

    codec: Codec = "deflate"
    #: Of the codec; the fastest unless given.
    level: int | None = None
    #: Items of a block before compression.
    block_bytes: Bytes = Bytes(256 * 1024)


class _File(NamedTuple):
    """A file of an append, about to be written."""

    name: str
    schema: str
    fingerprint: bytes
    items: Sequence[bytes]
    frames: Frames


def files_journal(url: str, schemas: Schemas) -> FilesJournal:
    """A journal of ``files:DIR?codec=deflate&level=1&block_bytes=256kB``. Raises `ConfigurationError`."""
    path, _, query = url.removeprefix("files:").partition("?")
    if not path:
        raise ConfigurationError(f"{url}: names no directory", remedy="write files:DIR, such as files:archive")
    options = {key: int(value) if value.isdecimal() else value for key, value in parse_qsl(query, keep_blank_values=True)}
    return FilesJournal(Path(path), schemas, convert(options, FilesOptions, origin=url))


class FilesJournal:
    """See `storage.contract.Journal`. Below ``root``; frames of other than ``schemas`` become dead letters."""

    def __init__(self, root: Path, schemas: Schemas, options: FilesOptions | None = None) -> None:
        self._root = root
        self._options = options or FilesOptions()
        self._level = check_level(self._options.codec, self._options.level)
        self._sorter = FrameSorter(schemas)
        self._cleared = False

    @property
    def url(self) -> str:
        return f"files:{self._root}"

    def partitions(self) -> Sequence[tuple[str, int]]:
        return [found for found in layout.partitions(self._root) if self.next_offset(*found) is not None]

    def next_offset(self, topic: str, partition: int) -> int | None:
        last = layout.last_append(layout.partition_path(self._root, topic, partition))
        return last.next if last else None

    def append(self, topic: str, partition: int, records: Sequence[tuple[int, int, str, bytes]], *, first: int) -> int:
        """See `storage.contract.Journal.append`."""
        offsets, times, keys, values = zip(*records, strict=True)
        found = self._sorter.sort(values)
        all_offsets, all_times = as_ints(offsets), as_ints(times)
        if int(all_offsets[0]) < first or (np.diff(all_offsets) <= 0).any():
            raise ValueError(f"{topic}/{partition}: offsets do not rise from {first}")
        files = [_kind_file(kind, all_offsets, all_times) for kind in found.kinds]
        if found.dead:
            items = [
                letters.encode_letter(offsets[place], times[place], keys[place], reason, values[place])
                for place, reason in found.dead
            ]
            places = as_ints([place for place, _ in found.dead])
            files.append(
                _letters_file(layout.DEAD_LETTERS, letters.DEAD_LETTER_SCHEMA, items, all_offsets[places], all_times[places])
            )
        return self._commit(topic, partition, files, Extent(first, offsets[-1] + 1), times[0])

    def append_lost(self, topic: str, partition: int, *, first: int, next_offset: int, time: int, reason: str) -> int:
        """See `storage.contract.Journal.append_lost`."""
        item = letters.encode_lost(first, next_offset, time, reason)
        file = _letters_file(layout.LOST, letters.LOST_SCHEMA, [item], as_ints([first]), as_ints([time]))
        return self._commit(topic, partition, [file], Extent(first, next_offset), time)

    def extents(self, topic: str, partition: int, *, start: int = 0) -> Iterator[Extent]:
        for append in layout.appends(layout.partition_path(self._root, topic, partition), start):
            yield Extent(append.first, append.next)

    def read(self, topic: str, partition: int, *, start: int = 0, end: int | None = None) -> Iterator[JournalRecord]:
        """See `storage.contract.Journal.read`. Raises `StoreRefused` for a damaged file."""
        for append in layout.appends(layout.partition_path(self._root, topic, partition), start):
            if end is not None and append.first >= end:
                return
            siblings = [_records(path, start, end) for path in sorted(append.path.iterdir()) if layout.kind_of(path)]
            yield from heapq.merge(*siblings)

    def check(self) -> None:
        folder = self._root.absolute()
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"{self.url}: {folder} is not a directory this user can write to", remedy="name another one")

    def close(self) -> None:
        """Nothing is kept open."""

    def _commit(self, topic: str, partition: int, files: Sequence[_File], extent: Extent, time: int) -> int:
        first, following = extent
        folder = layout.partition_path(self._root, topic, partition)
        where = f"{self.url}: topic {topic!r}, partition {partition}"
        with _named(where):
            if not self._cleared:
                clear_abandoned(self._root)
                self._cleared = True
            with staged(self._root) as staging:
                for file in files:
                    path = staging / layout.file_name(first, following, file.name)
                    self._write(path, file, {"topic": topic, "partition": partition, "first": first, "next": following})
                with alone(folder, timeout=_PATIENCE):
                    last = layout.last_append(folder)
                    target = layout.hour_path(folder, time, last) / layout.append_name(first)
                    if (last is not None and last.next != first) or not commit(staging, target):
                        raise self._overtaken(where, folder, first)
        return following

    def _overtaken(self, where: str, folder: Path, first: int) -> Overtaken:
        last = layout.last_append(folder)
        return Overtaken(
            f"{where}: offset {first} does not follow what is kept, which goes on at {last.next if last else 'its beginning'}",
            next_offset=last.next if last else first,
            remedy="another writer archives the same partition; go on from there",
        )

    def _write(self, path: Path, file: _File, extent: dict[str, str | int]) -> None:
        facts = {
            **extent,
            "fingerprint": file.fingerprint.hex(),
            "records": len(file.items),
            "events": int(file.frames.counts.sum()),
            "min_append_time": int(file.frames.append_times.min()),
            "max_append_time": int(file.frames.append_times.max()),
        }
        with path.open("xb") as out:
            write_container(
                out,
                schema=file.schema,
                items=file.items,
                frames=file.frames,
                metadata={f"iotcloud.{key}": str(value) for key, value in facts.items()},
                codec=self._options.codec,
                level=self._level,
                block_bytes=self._options.block_bytes,
            )


def _kind_file(kind: Kind, offsets: Ints, times: Ints) -> _File:
    places = as_ints(kind.places)
    lengths = as_ints([len(items) for items in kind.items])
    frames = Frames(offsets[places], times[places], as_ints(kind.counts), lengths)
    return _File(f"{kind.name}.{kind.fingerprint.hex()}", kind.schema, kind.fingerprint, kind.items, frames)


def _letters_file(name: str, schema: str, items: Sequence[bytes], offsets: Ints, times: Ints) -> _File:
    lengths = as_ints([len(item) for item in items])
    return _File(name, schema, b"", items, Frames(offsets, times, np.ones(len(items), np.int64), lengths))


def _records(path: Path, start: int, end: int | None) -> Iterator[JournalRecord]:
    """Records of one file, as they were in the log."""
    kind = layout.kind_of(path)
    if kind == layout.LOST:
        return
    container = Container(path)
    restore = _letter if kind == layout.DEAD_LETTERS else _frame(bytes.fromhex(container.text("iotcloud.fingerprint")))
    for offset, time, count, items in container.read(start=start, end=end):
        yield restore(offset, time, count, items)


def _letter(offset: int, time: int, _count: int, item: bytes) -> JournalRecord:
    letter = letters.decode_letter(item)
    return JournalRecord(offset, time, letter["key"], letter["frame"])


def _frame(fingerprint: bytes) -> Callable[[int, int, int, bytes], JournalRecord]:
    prefix = MAGIC + fingerprint

    def restore(offset: int, time: int, count: int, items: bytes) -> JournalRecord:
        return JournalRecord(offset, time, "", b"".join((prefix, encode_long(count), items, b"\0")))

    return restore


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Errors of the file system as those of stores."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull(
                f"{where}: {error}", remedy="free space; nothing of this append was kept, it can be tried again"
            ) from error
        raise StoreUnavailable(f"{where}: {error}", remedy="is the folder there and writable for this user?") from error
