"""Lists in parts: ordered by their key, continued after the last key of the part before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, tuple_

from master.views import Page
from schemas.errors import ConfigurationError

T = TypeVar("T")

MAX_LIMIT: Final = 10_000
DEFAULT_LIMIT: Final = 1_000


def page(
    connection: Connection,
    query: Select[Any],
    key: Sequence[ColumnElement[Any]],
    make: Callable[[Sequence[Any]], list[T]],
    *,
    after: str | None,
    limit: int,
) -> Page[T]:
    """The part of ``query`` after the cursor. ``make`` turns its rows into items. Raises `ConfigurationError`."""
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*_decode(after, len(key))))
    rows = connection.execute(query.order_by(*key).limit(limit + 1)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    names = [column.name for column in key]
    return Page(make(rows), _encode([getattr(rows[-1], name) for name in names]) if more else None)


def _encode(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _decode(cursor: str, length: int) -> list[str | int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=list[str | int])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"after={cursor!r} is not a cursor", remedy="give the 'next' of the part before") from error
    if len(key) != length:
        raise ConfigurationError(f"after={cursor!r} is the cursor of another list", remedy="give the 'next' of the part before")
    return key
