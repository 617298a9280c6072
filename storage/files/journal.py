"""`FilesJournal`: raw records of logs in Avro files. See `storage.files.layout` for where they lie."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.fingerprint import MAGIC
from schemas.registry import Schemas
from schemas.varint import encode_long
from settings import Bytes
from storage.contract import Extent, JournalRecord
from storage.errors import Overtaken, StoreRefused, StoreUnavailable
from storage.files import layout, letters
from storage.files.codecs import CodecName, check_level, codec_named
from storage.files.committing import MARK, clear_abandoned, commit, new_mark
from storage.files.container import Container, Frames, Ints, write_container
from storage.files.filesystem import FileSystem
from storage.files.frames import FrameSorter, Kind, as_ints


class FilesOptions(msgspec.Struct, frozen=True):
    """What the URL of a journal may say after its ``?``, wherever it lies."""

    codec: CodecName = "deflate"
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


class FilesJournal:
    """See `storage.contract.Journal`. On ``files``; frames of other than ``schemas`` become dead letters."""

    def __init__(self, files: FileSystem, schemas: Schemas, options: FilesOptions | None = None) -> None:
        self._files = files
        self._options = options or FilesOptions()
        self._codec = codec_named(self._options.codec)
        self._level = check_level(self._codec, self._options.level)
        self._sorter = FrameSorter(schemas)
        self._cleared = False

    @property
    def url(self) -> str:
        return self._files.url

    def partitions(self) -> Sequence[tuple[str, int]]:
        return [found for found in layout.partitions(self._files) if self.next_offset(*found) is not None]

    def next_offset(self, topic: str, partition: int) -> int | None:
        last = layout.last_append(self._files, layout.partition_path(topic, partition))
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
        for append in layout.appends(self._files, layout.partition_path(topic, partition), start):
            yield Extent(append.first, append.next)

    def read(self, topic: str, partition: int, *, start: int = 0, end: int | None = None) -> Iterator[JournalRecord]:
        """See `storage.contract.Journal.read`. Raises `StoreRefused` for a damaged file."""
        for append in layout.appends(self._files, layout.partition_path(topic, partition), start, end):
            yield from heapq.merge(*(_records(self._files, f"{append.path}/{name}", start, end) for name in append.files))

    def check(self) -> None:
        self._files.check()

    def close(self) -> None:
        self._files.close()

    def _commit(self, topic: str, partition: int, files: Sequence[_File], extent: Extent, time: int) -> int:
        first, following = extent
        folder = layout.partition_path(topic, partition)
        mark = new_mark()
        facts = {"topic": topic, "partition": str(partition), "first": str(first), "next": str(following)}
        metadata = {f"iotcloud.{key}": value for key, value in facts.items()} | {MARK: mark}
        content = {layout.file_name(first, following, file.name): self._container(file, metadata) for file in files}
        try:
            if not self._cleared:
                clear_abandoned(self._files)
                self._cleared = True
            if not commit(self._files, folder, content, hour=layout.hour_of(time), first=first, mark=mark):
                raise self._overtaken(topic, partition, first)
        except (StoreUnavailable, StoreRefused) as error:
            raise type(error)(f"topic {topic!r}, partition {partition}: {error.message}", remedy=error.remedy) from error
        return following

    def _overtaken(self, topic: str, partition: int, first: int) -> Overtaken:
        following = self.next_offset(topic, partition)
        return Overtaken(
            f"{self.url}: topic {topic!r}, partition {partition}: offset {first} does not follow what is kept, "
            f"which goes on at {'its beginning' if following is None else following}",
            next_offset=first if following is None else following,
            remedy="another writer archives the same partition; go on from there",
        )

    def _container(self, file: _File, metadata: dict[str, str]) -> bytes:
        """The file's bytes."""
        facts = {
            "fingerprint": file.fingerprint.hex(),
            "records": len(file.items),
            "events": int(file.frames.counts.sum()),
            "min_append_time": int(file.frames.append_times.min()),
            "max_append_time": int(file.frames.append_times.max()),
        }
        out = io.BytesIO()
        write_container(
            out,
            schema=file.schema,
            items=file.items,
            frames=file.frames,
            metadata={**metadata, **{f"iotcloud.{key}": str(value) for key, value in facts.items()}},
            codec=self._codec,
            level=self._level,
            block_bytes=self._options.block_bytes,
        )
        return out.getvalue()


def _kind_file(kind: Kind, offsets: Ints, times: Ints) -> _File:
    places = as_ints(kind.places)
    lengths = as_ints([len(items) for items in kind.items])
    frames = Frames(offsets[places], times[places], as_ints(kind.counts), lengths)
    return _File(f"{kind.name}.{kind.fingerprint.hex()}", kind.schema, kind.fingerprint, kind.items, frames)


def _letters_file(name: str, schema: str, items: Sequence[bytes], offsets: Ints, times: Ints) -> _File:
    lengths = as_ints([len(item) for item in items])
    return _File(name, schema, b"", items, Frames(offsets, times, np.ones(len(items), np.int64), lengths))


def _records(files: FileSystem, path: str, start: int, end: int | None) -> Iterator[JournalRecord]:
    """Records of one file, as they were in the log."""
    kind = layout.kind_of(path.rsplit("/", 1)[-1])
    if kind == layout.LOST:
        return
    container = Container(files, path)
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
