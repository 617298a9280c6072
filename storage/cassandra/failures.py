"""What Cassandra's errors mean for who writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cassandra import (  # type: ignore[import-untyped]
    AuthenticationFailed,
    CoordinationFailure,
    DriverException,
    OperationTimedOut,
    RequestExecutionException,
    Unauthorized,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable  # type: ignore[import-untyped]
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.pool import NoConnectionsAvailable  # type: ignore[import-untyped]
from cassandra.protocol import ErrorMessage, ServerError  # type: ignore[import-untyped]

from storage.errors import StoreError, StoreRefused, StoreUnavailable

ERRORS: Final = (DriverException, ConnectionException, NoHostAvailable, NoConnectionsAvailable, ErrorMessage, OSError)
_TRANSIENT: Final = (
    RequestExecutionException,
    CoordinationFailure,
    OperationTimedOut,
    ConnectionException,
    NoConnectionsAvailable,
    ServerError,
    UnresolvableContactPoints,
    OSError,
)


class NotApplied(Exception):
    """Another writer was first."""


def is_transient(error: Exception) -> bool:
    """Whether trying again at once may help."""
    if isinstance(error, NotApplied):
        return True
    if isinstance(error, NoHostAvailable):
        # One server that lets nobody in will not be helped by another that is away.
        return not any(isinstance(cause, AuthenticationFailed) for cause in _causes(error))
    return isinstance(error, _TRANSIENT) and not isinstance(error, (AuthenticationFailed, Unauthorized))


def describe(where: str, error: Exception) -> StoreError:
    """The store's error for what the servers, or the client library, said about ``where``."""
    causes = list(_causes(error))
    message = f"{where}: {'; '.join(dict.fromkeys(str(cause) or type(cause).__name__ for cause in causes))}"
    if any(isinstance(cause, AuthenticationFailed) for cause in causes):
        return StoreRefused(message, remedy="check user and password of the URL")
    if isinstance(error, Unauthorized):
        return StoreRefused(message, remedy="grant the user what the store's README tells")
    if isinstance(error, NotApplied):
        return StoreUnavailable(message, remedy="others write the same rows all the time: does another job do the same work?")
    if is_transient(error):
        return StoreUnavailable(message, remedy="are enough servers running, to be reached from here, and not overloaded?")
    return StoreRefused(message)


def _causes(error: Exception) -> Iterator[BaseException]:
    """What is behind ``error``, for each server."""
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict) and error.errors:
        yield from error.errors.values()
    else:
        yield error
