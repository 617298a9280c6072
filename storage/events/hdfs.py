"""`Files` on HDFS, which cannot exchange two directories: an hour is moved aside and the new one in.

Moved aside it lies beside its place, as ``.hour=HH.TIME``. In any listing of the day one of both is there, and `HdfsFiles` finds
the one where it does not find the other, so its readers miss nothing; others find no such hour for a moment. Invariants:

- What is aside is deleted only when something is in its place.
- What is about to be swapped is noted in the job's own place, before: `recover` puts right what a crash leaves.
- What moves is prepared in the job's own place, and then the lease is checked; see `storage.events.lease`.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import BinaryIO, Final, cast

from schemas.errors import ConfigurationError
from storage.errors import StoreFull, StoreUnavailable
from storage.events.lease import Lease, holds
from storage.files.local import NO_ROOM
from storage.files.opening import open_hdfs
from storage.files.webhdfs import WebHdfs
from storage.files.webhdfs_client import WebHdfsOptions

#: Seconds; a shorter one is lost when the NameNode is busy.
_SHORTEST_LEASE: Final = 1.0
_LOCK: Final = "events/.lock"
_STAGING: Final = "events/.staging"
#: In the place of a job: under its own path what it is about to swap, and what it removes.
_SWAPPING: Final = "swapping"
_REMOVED: Final = "removed"
#: How often others may change it while something is looked for or cleared away.
_MOST_ROUNDS: Final = 20
_ASIDE: Final = re.compile(r"\.(.+)\.\d{20}")


class HdfsFiles:
    """See `storage.events.files.Files`. A file that is read or written lies in a local temporary file meanwhile.

    So what was opened can be read when it has been taken away, and what could not be written is written again.
    """

    def __init__(self, url: str, key: str = "") -> None:
        """``key`` is that of the job, which may be in another process, that is `alone`. Raises `ConfigurationError`."""
        self._address = url
        self._key = key
        self._system, options = _connection(url)
        self._lease = options.lease
        if self._lease < _SHORTEST_LEASE:
            raise ConfigurationError(f"{self.url}: the lease of {self._lease:g} s is too short", remedy="a minute is usual")

    @property
    def url(self) -> str:
        return self._system.url

    def open(self, path: str) -> BinaryIO:
        with _local(), ExitStack() as stack:
            file = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile()))
            self._fetch(path, file)
            file.seek(0)
            stack.pop_all()
            return file

    @contextmanager
    def create(self, path: str, *, durable: bool = True) -> Iterator[BinaryIO]:  # noqa: ARG002  (HDFS knows no other)
        with _local(), tempfile.TemporaryFile() as file:
            yield cast("BinaryIO", file)
            self._move(self._system.put(self._place, cast("BinaryIO", file)), path)

    def list(self, path: str) -> list[str]:
        for _ in range(_MOST_ROUNDS):
            if names := self._system.names(path):
                break
            # One answer tells of its place and of what was moved aside; it may have been put in its place since the first look.
            beside = self._system.names(posixpath.dirname(path))
            if (aside := _newest(path, beside)) and (names := self._system.names(aside)):
                break
            if aside is None and posixpath.basename(path) not in beside:
                break
        return sorted({match[1] if (match := _ASIDE.fullmatch(name)) else name for name in names})

    def replace(self, path: str, data: bytes) -> None:
        part = self._system.put(self._place, data)
        self._system.make(posixpath.dirname(path))
        self._check()
        self._move(part, path, replace=True)

    def stage(self) -> str:
        path = f"{self._place}/{uuid.uuid4().hex}"
        self._system.make(path)
        return path

    def swap(self, staged: str, target: str) -> None:
        folder, name = posixpath.split(target)
        note = f"{self._place}/{_SWAPPING}/{target}"
        self._system.make(note)
        self._system.make(folder)
        self._check()
        aside = f"{folder}/.{name}.{time.time_ns():020d}"
        with suppress(FileNotFoundError):
            self._system.rename(target, aside, parents=False)
        try:
            self._move(staged, target)
        except StoreUnavailable:
            with suppress(FileNotFoundError):
                self._system.rename(aside, target, parents=False)
            raise
        for old in self._asides(target):
            self._system.delete(old)
        self._system.delete(note)

    def remove(self, path: str) -> None:
        place = f"{self._place}/{_REMOVED}/{uuid.uuid4().hex}"
        self._system.make(place)
        self._check()
        for old in (path, *self._asides(path)):
            try:
                self._system.rename(old, f"{place}/{posixpath.basename(old)}", parents=False)
            except FileNotFoundError:
                # Nothing was there, or the place is not any more.
                self._check()
        self._system.delete(place)

    @contextmanager
    def alone(self) -> Iterator[str]:
        # With connections of its own, as it is renewed from a thread of its own.
        system, _ = open_hdfs(self._address)
        lease = Lease(system, _LOCK, self._lease)
        try:
            self._key = lease.take()
            try:
                yield self._key
            finally:
                self._key = ""
                lease.give_up()
        finally:
            system.close()

    def recover(self) -> None:
        for _ in range(_MOST_ROUNDS):
            if not (places := self._system.names(_STAGING)):
                break
            # In this order: no place of a job that has the lease later is among them.
            self._check()
            for place in places:
                self._close(f"{_STAGING}/{place}")
        self._system.delete_empty(_STAGING)

    def _close(self, place: str) -> None:
        """Take a job's place away from it, put right what it was about, and delete it."""
        closed = f"{_STAGING}/{uuid.uuid4().hex}"
        try:
            self._system.rename(place, closed, parents=False)
        except FileNotFoundError:
            return
        notes = f"{closed}/{_SWAPPING}"
        for root in self._system.names(notes):
            for schema in self._system.names(f"{notes}/{root}"):
                for date in self._system.names(f"{notes}/{root}/{schema}"):
                    for hour in self._system.names(f"{notes}/{root}/{schema}/{date}"):
                        self._put_right(f"{root}/{schema}/{date}/{hour}")
        self._system.delete(closed)

    def _put_right(self, target: str) -> None:
        folder, name = posixpath.split(target)
        asides = self._asides(target)
        if asides and name not in self._system.names(folder):
            with suppress(FileNotFoundError):
                self._system.rename(asides[-1], target, parents=False)
            asides = asides[:-1]
        for old in asides:
            self._system.delete(old)

    @property
    def _place(self) -> str:
        if not self._key:
            raise RuntimeError("events are changed within 'alone', or with its key")
        return f"{_STAGING}/{self._key}"

    def _check(self) -> None:
        """Raises `StoreUnavailable` when the job is not alone any more."""
        if not holds(self._system, _LOCK, self._key):
            raise self._lost()

    def _lost(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.url}: another job has taken the place of this one, which was out of touch for too long",
            remedy="run it again; see ?lease=",
        )

    def _move(self, source: str, target: str, *, replace: bool = False) -> None:
        """Put what was prepared in its place. Raises `StoreUnavailable` when it is not there any more."""
        try:
            moved = self._system.rename(source, target, parents=False, replace=replace)
        except FileNotFoundError as error:
            raise self._lost() from error
        if not moved:
            raise StoreUnavailable(f"{self.url}: {target} is there, which it was not a moment ago", remedy="run it again")

    def _fetch(self, path: str, file: BinaryIO) -> None:
        """Copy a file, wherever its directory is now. Raises `FileNotFoundError`."""
        folder, name = posixpath.split(path)
        for _ in range(_MOST_ROUNDS):
            try:
                return self._system.fetch(path, file)
            except FileNotFoundError:
                aside = _newest(folder, self._system.names(posixpath.dirname(folder)))
            if aside is None:
                break
            with suppress(FileNotFoundError):
                return self._system.fetch(f"{aside}/{name}", file)
        # It may have been put in its place since the first look.
        return self._system.fetch(path, file)

    def _asides(self, target: str) -> Sequence[str]:
        return _asides(target, self._system.names(posixpath.dirname(target)))


def _asides(target: str, names: Sequence[str]) -> Sequence[str]:
    """Where directories were moved that were at ``target``, the oldest first; ``names`` are those beside it."""
    folder, name = posixpath.split(target)
    found = ((_ASIDE.fullmatch(one), one) for one in names)
    return [f"{folder}/{one}" for match, one in found if match and match[1] == name]


def _newest(target: str, names: Sequence[str]) -> str | None:
    return next(iter(reversed(_asides(target, names))), None)


@lru_cache(maxsize=8)
def _connection(url: str) -> tuple[WebHdfs, WebHdfsOptions]:
    """The one that all functions in a process share."""
    return open_hdfs(url)


@contextmanager
def _local() -> Iterator[None]:
    """Raises `StoreFull` when there is no room for temporary files."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StoreFull(
            f"{tempfile.gettempdir()}: {error.strerror}", remedy="free space there, or name another directory in TMPDIR"
        ) from error
