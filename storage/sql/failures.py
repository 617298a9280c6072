"""What a database's errors mean for who writes to it."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from storage.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable

_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_UNREACHABLE: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_transient(error: Exception) -> bool:
    """Whether trying again at once may help: another process held the database."""
    return _code(error) in _LOCKED


def describe(where: str, error: DBAPIError) -> StoreError:
    """The store's error for what the database said about ``where``."""
    code = _code(error)
    message = f"{where}: {error.orig}"
    if code in _LOCKED:
        return StoreUnavailable(message, remedy="another process holds the database for long: see which with fuser")
    if code in _NO_ROOM:
        return StoreFull(
            message, remedy="the disk is full or failing, or a quota is reached: free space; nothing was half written"
        )
    if code in _UNREACHABLE:
        return StoreUnavailable(message, remedy="is the folder there and writable for this user?")
    if code in _DAMAGED:
        return StoreRefused(message, remedy="save what can be with: sqlite3 FILE .recover; or name a new file")
    return StoreRefused(message)


def _code(error: Exception) -> int:
    origin = error.orig if isinstance(error, DBAPIError) else error
    return getattr(origin, "sqlite_errorcode", 0) & 0xFF
