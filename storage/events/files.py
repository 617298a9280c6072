"""The file system that events lie on. Nothing else of `storage.events` touches one; a new system implements `Files`.

Paths are relative to the archive's root and written with ``/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from schemas.errors import ConfigurationError
from settings.substitution import redact
from storage.files import SCHEMES


class Files(Protocol):
    """All methods may be called from any thread, and raise `StoreUnavailable` or `StoreFull` when they cannot do as asked.

    What changes something is called within `alone`, or with its key.
    """

    @property
    def url(self) -> str: ...

    def open(self, path: str) -> BinaryIO:
        """A file to read from any place, also after it has been taken away. Raises `FileNotFoundError`."""

    def create(self, path: str, *, durable: bool = True) -> AbstractContextManager[BinaryIO]:
        """A new file in a directory that `stage` has made; on leaving it is durable, unless that is not asked for."""

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; none where there is no directory."""

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` into a small file, durably. A reader sees the old content or the new."""

    def stage(self) -> str:
        """A new directory, out of readers' sight, to put files into."""

    def swap(self, staged: str, target: str) -> None:
        """Put a staged directory in the place of ``target``, durably, whether or not there is one.

        A reader finds the old directory or the new one. Where the system cannot exchange them at once, it may find none for a
        moment, and what a crash leaves in that moment is put right by `recover`.
        """

    def remove(self, path: str) -> None:
        """Take away a directory: it is gone at once, with all that is in it."""

    def alone(self) -> AbstractContextManager[str]:
        """Be the only one to write below the root. Raises `StoreRefused` at once when another is.

        Gives the key for `open_files` of those who write for it, in whatever process. It ends with the process, on a system of
        several machines some time later. Who was held up for so long that another took over changes nothing any more:
        `StoreUnavailable`.
        """

    def recover(self) -> None:
        """Undo what a writer that died has left. Only within `alone`."""


def open_files(url: str, key: str = "") -> Files:
    """The file system of an archive, such as ``files:archive`` or ``hdfs://namenode:9870/archive?user=…``.

    ``key`` is what `Files.alone` gave to the job that writes. Raises `ConfigurationError`.
    """
    scheme, _, rest = url.partition(":")
    path = rest.partition("?")[0]
    if scheme == "files" and path:
        from storage.events.local import LocalFiles

        return LocalFiles(path)
    if scheme in SCHEMES and scheme != "files":
        from storage.events.hdfs import HdfsFiles

        return HdfsFiles(url, key)
    raise ConfigurationError(
        f"{redact(url)}: events cannot be kept there", remedy="write files:archive, or hdfs://namenode:9870/iotcloud/archive"
    )


def lines_of(files: Files, path: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the small files in a directory."""
    for name in files.list(path):
        with files.open(f"{path}/{name}") as file:
            yield name, file.read()
