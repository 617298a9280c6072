"""A journal from its URL: which file system it lies on, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from schemas.errors import ConfigurationError
from schemas.registry import Schemas
from settings import convert
from storage.files.journal import FilesJournal, FilesOptions
from storage.files.local import LocalDisk

if TYPE_CHECKING:
    from storage.files.webhdfs import WebHdfs
    from storage.files.webhdfs_client import WebHdfsOptions


def files_journal(url: str, schemas: Schemas) -> FilesJournal:
    """A journal of ``files:DIR?codec=…``, or of ``hdfs://…`` as in `storage.files.webhdfs`. Raises `ConfigurationError`."""
    if not url.startswith("files:"):
        system, options = open_hdfs(url)
        return FilesJournal(system, schemas, options)
    path, _, query = url.removeprefix("files:").partition("?")
    if not path:
        raise ConfigurationError(f"{url}: names no directory", remedy="write files:DIR, such as files:archive")
    return FilesJournal(
        LocalDisk(Path(path)), schemas, convert(dict(parse_qsl(query, keep_blank_values=True)), FilesOptions, origin=url)
    )


def open_hdfs(url: str) -> tuple[WebHdfs, WebHdfsOptions]:
    """See `storage.files.webhdfs.open_webhdfs`. Raises `ConfigurationError` also when the library is not installed."""
    try:
        from storage.files.webhdfs import open_webhdfs
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"HDFS needs the library {error.name}", remedy="pip install 'iotcloud[files]'") from error
    return open_webhdfs(url)
