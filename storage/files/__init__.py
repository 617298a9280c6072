"""The journal of raw frames in Avro files on the local disk."""

from __future__ import annotations

from typing import Final

from schemas.registry import Schemas
from storage.contract import Journal

SCHEMES: Final = ("files",)


def open_journal(url: str, schemas: Schemas) -> Journal:
    """A journal below ``files:DIR``. Raises `ConfigurationError`."""
    from storage.files.journal import files_journal

    return files_journal(url, schemas)
