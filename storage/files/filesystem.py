"""What the journal needs of a file system. A new system implements `FileSystem`, and all else of this package stays as it is.

Paths are relative to the root and written with ``/``.
"""

from __future__ import annotations

from typing import BinaryIO, Protocol


class FileSystem(Protocol):
    """Methods raise `StoreUnavailable`, of which `StoreFull` is one, and `StoreRefused` when they cannot do as asked."""

    @property
    def url(self) -> str: ...

    def names(self, folder: str) -> list[str]:
        """Names in a directory, sorted; none where there is no directory."""

    def create(self, path: str, data: bytes) -> None:
        """A new file, durable, with the directories above it. There is never half of it at ``path``."""

    def open(self, path: str) -> BinaryIO:
        """A file to read from any place. Raises `FileNotFoundError`."""

    def rename(self, source: str, target: str) -> bool:
        """Move a directory, durably, to where nothing is yet; directories above ``target`` are made.

        False, and nothing has changed, when something is there; an empty directory may count as nothing. Of several that try
        at once for one target or with one source, one succeeds. Raises `FileNotFoundError` when ``source`` is not there.
        """

    def delete(self, path: str) -> None:
        """Take away a file, or a directory with all in it; nothing happens when there is none."""

    def delete_empty(self, folder: str) -> None:
        """Take away a directory that is empty; one that is not stays."""

    def modified(self, path: str) -> float:
        """When a file or directory was last changed, in seconds by the file system's clock. Raises `FileNotFoundError`."""

    def check(self) -> None:
        """Whether something could be written now, without writing. Raises `StoreError`."""

    def close(self) -> None: ...
