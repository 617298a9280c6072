"""The journal that watchers follow: what changed in the registry, in the order of the commits. Bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, select

from master.selection import Selection
from master.store.database import CHANGED
from master.store.tables import changes

Kind = Literal["gateway", "application", "channel", "device", "command"]
Action = Literal["added", "changed", "removed"]

#: How many changes are kept for watchers that come back.
KEPT: Final = 100_000
_SLACK: Final = 1_000


class Change(msgspec.Struct, frozen=True):
    """An entry of the journal; ``value`` is what the REST interface shows of it now, null when removed."""

    number: int
    time: int
    kind: Kind
    action: Action
    site: str
    gateway: str
    application: str
    device: str
    channel: str
    value: msgspec.Raw


def append(
    connection: Connection,
    kind: Kind,
    action: Action,
    value: object,
    *,
    time: int,
    site: str = "",
    gateway: str = "",
    application: str = "",
    device: str = "",
    channel: str = "",
) -> None:
    """Add a change to the transaction; watchers are told when it commits."""
    connection.execute(
        changes.insert(),
        {
            "time": time,
            "kind": kind,
            "action": action,
            "site": site,
            "gateway": gateway,
            "application": application,
            "device": device,
            "channel": channel,
            "value": msgspec.json.encode(value).decode(),
        },
    )
    connection.info[CHANGED] = True


def bounds(connection: Connection) -> tuple[int, int]:
    """Numbers of the first change kept and of the last one; (1, 0) when there was none."""
    first, last = connection.execute(select(func.min(changes.c.number), func.max(changes.c.number))).one()
    return (int(first), int(last)) if last is not None else (1, 0)


def after(
    connection: Connection, number: int, chosen: Selection, kinds: Sequence[str], *, limit: int
) -> tuple[list[Change], int]:
    """Up to ``limit`` changes after ``number``, and the number up to which none was overlooked."""
    end = bounds(connection)[1]
    conditions: list[ColumnElement[bool]] = [changes.c.number > number, changes.c.number <= end]
    for name in ("site", "gateway", "application", "device", "channel"):
        wanted = getattr(chosen, name)
        if wanted:
            conditions.append(changes.c[name].in_(wanted))
    if kinds:
        conditions.append(changes.c.kind.in_(kinds))
    rows = connection.execute(select(changes).where(*conditions).order_by(changes.c.number).limit(limit)).all()
    found = [_change(row) for row in rows]
    return found, found[-1].number if len(found) == limit else end


def trim(connection: Connection, *, keep: int = KEPT) -> None:
    """Give up the oldest changes beyond ``keep``, a thousand at a time at least."""
    first, last = bounds(connection)
    if last - first + 1 > keep + _SLACK:
        connection.execute(delete(changes).where(changes.c.number <= last - keep))


def _change(row: Any) -> Change:
    return Change(
        number=row.number,
        time=row.time,
        kind=row.kind,
        action=row.action,
        site=row.site,
        gateway=row.gateway,
        application=row.application,
        device=row.device,
        channel=row.channel,
        value=msgspec.Raw(row.value.encode()),
    )
