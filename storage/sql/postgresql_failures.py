"""What PostgreSQL's errors mean for who writes to it."""

from __future__ import annotations

import re
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

from storage.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable

#: Classes and codes of appendix A of PostgreSQL's manual: lost connections, rollbacks of the server's own making, too
#: little of something, a server that goes or comes, a server that has become a standby, a lock or a statement that took long.
_TRANSIENT: Final = ("08", "40", "53", "57P", "25006", "55P03", "57014", "58000", "58030")
_DISK_FULL: Final = "53100"
#: No privilege; no schema that may be used.
_NO_RIGHT: Final = ("42501", "3F000")
#: Before a session has begun the client library gives no code. What it says of these in other languages counts as
#: unavailable, and is shown.
_UNWANTED: Final = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|role \".*\" (does not exist|is not permitted)"
    r"|database \".*\" does not exist|permission denied for database|is not currently accepting connections"
    r"|does not support SSL|certificate verify failed|certificate authority|root certificate file|certificate file"
    r"|private key file|server certificate for|SSL error: [a-z0-9]* alert|unsupported startup parameter"
    r"|requires a valid client certificate"
)


def is_transient(error: Exception) -> bool:
    """Whether trying again at once may help."""
    origin = _origin(error)
    if not isinstance(origin, psycopg.Error):
        return False
    if origin.sqlstate is None:
        return isinstance(origin, psycopg.OperationalError) and not _UNWANTED.search(str(origin))
    return origin.sqlstate.startswith(_TRANSIENT) and origin.sqlstate != _DISK_FULL


def describe(where: str, error: DBAPIError) -> StoreError:
    """The store's error for what the server, or the client library, said about ``where``."""
    origin = _origin(error)
    code = getattr(origin, "sqlstate", None) or ""
    message = f"{where}: {' '.join(str(origin).split())}"
    if code == _DISK_FULL:
        return StoreFull(message, remedy="free space at the server; nothing was half written")
    if is_transient(error):
        return StoreUnavailable(message, remedy="is the server running and to be reached from here, and not overloaded?")
    if code in _NO_RIGHT:
        return StoreRefused(message, remedy="grant the user what the store's README tells")
    if not code:
        return StoreRefused(message, remedy="check user, password, database and certificates of the URL")
    return StoreRefused(message)


def _origin(error: Exception) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error
