"""`FileSystem` on HDFS through WebHDFS, with the package ``hdfs``.

A file is written under a name that is used once and then renamed, so that neither a write that broke off nor one that comes late
is ever seen. Directories are moved by the rename that takes options (``renameoptions=NONE``), which never replaces; the plain one
moves a directory *into* one that is there.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar, cast

import msgspec
import stamina
from hdfs.client import _Request

from schemas.errors import ConfigurationError
from storage.address import parse_address
from storage.errors import StoreRefused, StoreUnavailable
from storage.files.webhdfs_client import WebHdfsOptions, connect
from storage.files.webhdfs_failures import FAILURES, Transient, described, named, quota_exceeded
from storage.files.webhdfs_reading import CHUNK, RangeReader

_T = TypeVar("_T")
#: Made as the library makes its own operations, of which this is none.
_CHECK_ACCESS: Final = _Request("GET").to_method("CHECKACCESS")
_DEFAULT_PORTS: Final = {"http": 9870, "https": 9871}
_PARTS: Final = ".staging"
#: Of a file that is fetched whole: bytes of one request, and of what of it is in memory.
_FETCHED: Final = 64 << 20
_COPIED: Final = 1 << 20
_LONGEST_PAUSE: Final = 3.0


def open_webhdfs(url: str) -> tuple[WebHdfs, WebHdfsOptions]:
    """``hdfs://nn1:9870,nn2:9870/path?user=…``, or ``swebhdfs:`` with TLS. Raises `ConfigurationError`."""
    address = parse_address(url)
    options = address.options_as(WebHdfsOptions)
    kind = url.split(":", 1)[0]
    protocol = "https" if kind == "swebhdfs" else "http"
    if not address.name.strip("/"):
        raise ConfigurationError(
            f"{address.redacted}: names no directory", remedy=f"write {kind}://namenode:9870/iotcloud/archive"
        )
    hosts = [f"[{host}]" if ":" in host else host for host, _ in address.hosts]
    places = [f"{host}:{port or _DEFAULT_PORTS[protocol]}" for host, (_, port) in zip(hosts, address.hosts, strict=True)]
    root = posixpath.normpath(f"/{address.name}")
    if address.user and not options.user:
        options = msgspec.structs.replace(options, user=address.user)
    return WebHdfs(f"{kind}://{','.join(places)}{root}", [f"{protocol}://{place}" for place in places], root, options), options


class WebHdfs:
    """See `storage.files.filesystem.FileSystem`. Below ``root`` of the cluster whose NameNodes are at ``urls``."""

    def __init__(self, shown: str, urls: list[str], root: str, options: WebHdfsOptions) -> None:
        self._shown = shown
        self._root = root
        self._options = options
        self._client = connect(urls, options)
        self._renames_safely = False

    @property
    def url(self) -> str:
        return self._shown

    def names(self, folder: str) -> list[str]:
        # The library's own method asks again about a directory in which there is one name.
        def listed() -> list[str]:
            answer = self._client._list_status(self._at(folder)).json()  # noqa: SLF001
            # What is asked about a file is told of the file itself, without a name.
            return sorted(filter(None, (status["pathSuffix"] for status in answer["FileStatuses"]["FileStatus"])))

        try:
            return self._try(listed)
        except FileNotFoundError:
            return []

    def create(self, path: str, data: bytes) -> None:
        try:
            if not self.rename(self.put(_PARTS, data), path):
                raise StoreRefused(f"{self.url}: {path} is there already")
        except FileNotFoundError as error:
            raise StoreUnavailable(f"{self.url}: {path} was deleted while it was written: {error}") from error

    def put(self, folder: str, data: bytes | BinaryIO) -> str:
        """Write ``data``, a file from its beginning, durably; where it is now: in ``folder``, whole, under a name used once."""
        return self._try(lambda: self._written(folder, data))

    def fetch(self, path: str, target: BinaryIO) -> None:
        """Write all of a file to the beginning of ``target``.

        Raises `FileNotFoundError`, also when the file is moved or another takes its place meanwhile.
        """
        status = self._status(path)
        length = int(status["length"])
        for start in range(0, length, _FETCHED):
            self._try(partial(self._copy, path, status, target, start, min(_FETCHED, length - start)))
        self._check_same(path, status)

    def make(self, folder: str) -> None:
        """Make a directory, and those above it."""
        self._try(lambda: self._client.makedirs(self._at(folder)))

    def open(self, path: str) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(RangeReader(self._range, path, int(self._status(path)["length"])), CHUNK))

    def rename(self, source: str, target: str, *, parents: bool = True, replace: bool = False) -> bool:
        """See `FileSystem.rename`; files are moved as well.

        ``parents`` False makes no directories: `FileNotFoundError` says then that there is no ``source`` or none to move it into.
        With ``replace`` it takes the place of a file.
        """
        if not self._renames_safely:
            self._check_rename()
        doubtful = False

        def move() -> bool:
            nonlocal doubtful
            try:
                if parents:
                    self._client.makedirs(self._at(posixpath.dirname(target)))
                self._renamed(source, target, "OVERWRITE" if replace else "NONE")
                return True
            except FAILURES as error:
                if named(error) == "FileAlreadyExistsException":
                    return False
                # Of an attempt that got no answer it is not known whether it was carried out.
                if named(error) == "FileNotFoundException" and doubtful:
                    return True
                doubtful = True
                raise

        return self._try(move)

    def delete(self, path: str) -> None:
        self._try(lambda: self._client.delete(self._at(path), recursive=True))

    def delete_empty(self, folder: str) -> None:
        def delete() -> None:
            try:
                self._client.delete(self._at(folder))
            except FAILURES as error:
                if named(error) != "PathIsNotEmptyDirectoryException":
                    raise

        self._try(delete)

    def modified(self, path: str) -> float:
        return int(self._try(lambda: self._client.status(self._at(path)))["modificationTime"]) / 1000

    def check(self) -> None:
        path = self._root
        while True:
            try:
                self._try(partial(_CHECK_ACCESS, self._client, path, fsaction="-wx"))
                return
            except FileNotFoundError:
                path = posixpath.dirname(path)

    def close(self) -> None:
        self._client._session.close()  # noqa: SLF001 (the library has no way to close)

    def _at(self, path: str) -> str:
        return posixpath.join(self._root, path)

    def _written(self, folder: str, data: bytes | BinaryIO) -> str:
        """Where ``data`` has been written, whole."""
        part = f"{folder}/{uuid.uuid4().hex}.part"
        options = self._options
        size = len(data) if isinstance(data, bytes) else data.seek(0, io.SEEK_END)
        if not isinstance(data, bytes):
            data.seek(0)
        try:
            self._client.write(self._at(part), data, blocksize=options.blocksize, replication=options.replication)
            length = int(self._client.status(self._at(part))["length"])
            if length != size:
                raise Transient(f"{part} has {length} bytes of {size}")
            return part
        except FAILURES:
            # It counts against quotas. Where this fails as well, `clear_abandoned` does it later.
            with contextlib.suppress(*FAILURES):
                self._client.delete(self._at(part))
            raise

    def _range(self, path: str, offset: int, length: int) -> bytes:
        def read() -> bytes:
            with self._client.read(self._at(path), offset=offset, length=length) as reader:
                data: bytes = reader.read()
            if len(data) != length:
                raise Transient(f"{path} gave {len(data)} bytes of {length} at {offset}")
            return data

        return self._try(read)

    def _copy(self, path: str, status: dict[str, Any], target: BinaryIO, offset: int, length: int) -> None:
        target.seek(offset)
        with self._client.read(self._at(path), offset=offset, length=length, chunk_size=_COPIED) as chunks:
            target.writelines(chunks)
        if target.tell() != offset + length:
            self._check_same(path, status)
            raise Transient(f"{path} gave {target.tell() - offset} bytes of {length} at {offset}")

    def _status(self, path: str) -> dict[str, Any]:
        status: dict[str, Any] = self._try(lambda: self._client.status(self._at(path)))
        if status["type"] != "FILE":
            raise FileNotFoundError(f"{self.url}/{path} is no file")
        return status

    def _check_same(self, path: str, status: dict[str, Any]) -> None:
        if self._status(path)["fileId"] != status["fileId"]:
            raise FileNotFoundError(f"{self.url}/{path} has been replaced")

    def _renamed(self, source: str, target: str, option: str) -> Any:
        # The library's own method takes no options.
        return self._client._rename(  # noqa: SLF001
            self._at(source), destination=self._at(target), renameoptions=option
        )

    def _check_rename(self) -> None:
        """See that the server knows renaming with options: HttpFS passes over what it does not know."""
        nowhere = f"{_PARTS}/{uuid.uuid4().hex}"

        def probe() -> None:
            try:
                self._renamed(nowhere, f"{nowhere}.moved", "NONE")
            except FAILURES as error:
                if named(error) != "FileNotFoundException":
                    raise
                return
            raise StoreRefused(
                f"{self.url}: the server cannot rename without replacing, so writers could double what is stored",
                remedy="name the NameNodes' own WebHDFS ports; HttpFS cannot do it",
            )

        self._try(probe)
        self._renames_safely = True

    def _try(self, call: Callable[[], _T]) -> _T:
        """The outcome of ``call``, tried again while it may help. Raises `StoreError` and `FileNotFoundError`."""
        try:
            for attempt in stamina.retry_context(
                on=_may_pass,
                attempts=None,
                timeout=self._options.patience,
                wait_initial=0.1,
                wait_max=_LONGEST_PAUSE,
                wait_jitter=0.5,
            ):
                with attempt:
                    return call()
        except FAILURES as error:
            failure = described(self.url, error)
            raise failure from error
        raise AssertionError("an attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, FAILURES) and isinstance(described("", error), StoreUnavailable) and not quota_exceeded(error)
