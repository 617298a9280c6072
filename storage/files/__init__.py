"""The journal of raw frames in Avro files, on the local disk or on HDFS."""

from __future__ import annotations

from typing import Final

from schemas.registry import Schemas
from storage.contract import Journal

SCHEMES: Final = ("files", "hdfs", "webhdfs", "swebhdfs")


def open_journal(url: str, schemas: Schemas) -> Journal:
    """A journal below ``files:DIR`` or ``hdfs://NAMENODE:9870/DIR``. Raises `ConfigurationError`."""
    from storage.files.opening import files_journal

    return files_journal(url, schemas)
