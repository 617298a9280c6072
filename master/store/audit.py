"""The audit log: who wrote what, when. The database itself refuses to change or delete its rows."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from master.store.tables import audit


class Entry(msgspec.Struct, frozen=True):
    """A line of the audit log. ``time`` is µs since 1970, UTC."""

    number: int
    time: int
    actor: str
    action: str
    subject: str
    detail: str


def append(connection: Connection, *, time: int, actor: str, action: str, subject: str, detail: str = "") -> None:
    connection.execute(audit.insert(), {"time": time, "actor": actor, "action": action, "subject": subject, "detail": detail})


def entries(connection: Connection, *, after: int, limit: int, subject: str | None = None) -> list[Entry]:
    """Entries with a number above ``after``, in order."""
    query = select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return [Entry(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name for it
