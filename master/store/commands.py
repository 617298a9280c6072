"""Commands and the steps they reach. A step read twice is recorded once; a late earlier step changes no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from master import views
from master.selection import Selection
from master.store import changes
from master.store import tables as t
from master.store.conditions import chosen_gateways, wanted
from master.store.database import insert
from master.store.pages import DEFAULT_LIMIT, page
from schemas.command import Command, CommandState

#: What has been reached only moves up. A gateway's own word outranks the master's `UNSENT`.
_RANK: Final = {
    views.ISSUED: 0,
    views.UNSENT: 1,
    views.SENT: 2,
    "accepted": 3,
    "started": 4,
    "unknown": 5,
    "expired": 6,
    "failed": 6,
    "done": 6,
}


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a gateway's, or of the master's own."""

    id: str
    gateway: str
    device: str
    state: str
    time: int
    detail: str


def issue(connection: Connection, command: Command) -> None:
    """Write a command down before anything is sent."""
    row = {
        "id": command.id,
        "gateway": command.gateway,
        "device": command.device,
        "name": command.name,
        "args": command.args,
        "issuer": command.issuer,
        "issued_time": command.issued_at,
        "deadline": command.deadline,
        "state": views.ISSUED,
        "state_time": command.issued_at,
        "detail": "",
    }
    connection.execute(t.commands.insert(), row)
    step = _Step(command.id, command.gateway, command.device, views.ISSUED, command.issued_at, "")
    _append(connection, step, command.issued_at)
    _journal(connection, command.id, "added", command.issued_at)


def reach(connection: Connection, ids: Sequence[str], state: str, detail: str, *, time: int) -> None:
    """Record a step of the master's own for commands it has issued."""
    for id in ids:  # noqa: A001
        row = connection.execute(select(t.commands).where(t.commands.c.id == id)).one_or_none()
        if row is not None:
            _record(connection, _Step(id, row.gateway, row.device, state, time, detail), time)


def record(connection: Connection, states: Sequence[CommandState], *, time: int) -> None:
    """Record steps told by gateways, also of commands that were issued by others."""
    for state in states:
        # PostgreSQL takes no NUL in a text, and one bad step must not hold up those after it for ever.
        told = {name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") for name, value in asdict(state).items() if name != "time"}
        _record(connection, _Step(**told, time=state.time), time)


def get(connection: Connection, id: str) -> views.Command | None:  # noqa: A002
    row = connection.execute(select(t.commands).where(t.commands.c.id == id)).one_or_none()
    return _view(row) if row else None


def commands(
    connection: Connection, chosen: Selection, *, state: str | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> views.Page[views.Command]:
    """In the order in which they became known."""
    table = t.commands
    query = select(table).where(*wanted(table.c.gateway, chosen.gateway), *wanted(table.c.device, chosen.device))
    if chosen.site or chosen.label:
        query = query.where(table.c.gateway.in_(select(t.gateways.c.gateway).where(*chosen_gateways(chosen))))
    if state is not None:
        query = query.where(table.c.state == state)
    return page(connection, query, [table.c.number], lambda rows: [_view(row) for row in rows], after=after, limit=limit)


def states(connection: Connection, id: str, *, after: int) -> list[views.CommandState]:  # noqa: A002
    """The steps of a command with a number above ``after``."""
    table = t.command_states
    rows = connection.execute(select(table).where(table.c.id == id, table.c.number > after).order_by(table.c.number))
    return [
        views.CommandState(
            row.number, row.id, row.gateway, row.device, row.state, row.time, row.detail, final=row.state in views.FINAL
        )
        for row in rows
    ]


def unsent(connection: Connection) -> list[Command]:
    """Commands written down that no broker has taken over yet, in their order."""
    query = select(t.commands).where(t.commands.c.state == views.ISSUED).order_by(t.commands.c.number)
    return [
        Command(row.id, row.gateway, row.device, row.name, row.args, row.issuer, row.issued_time, row.deadline)
        for row in connection.execute(query)
    ]


def trim(connection: Connection, *, before: int, now: int, limit: int) -> int:
    """Give up ``limit`` commands at most that have ended and of which nothing was recorded since ``before``; how many it were.

    Times are µs since 1970, UTC, of the master's clock. Watchers are not told.
    """
    states = t.command_states
    recent = select(states.c.number).where(states.c.recorded_time.between(before, now)).order_by(states.c.number).limit(1)
    # Rows are in the order in which they were recorded: this looks at old ones alone, however many there are.
    first = connection.execute(recent).scalar_one_or_none()
    if first is None:
        first = (connection.execute(select(func.max(states.c.number))).scalar_one() or 0) + 1
    later = states.alias()
    ended = (
        select(states.c.id)
        .join(t.commands, t.commands.c.id == states.c.id)
        .where(
            states.c.number < first,
            t.commands.c.state.in_(views.FINAL),
            ~select(later.c.id).where(later.c.id == states.c.id, later.c.number >= first).exists(),
        )
        .distinct()
        .limit(limit)
    )
    ids = connection.execute(ended).scalars().all()
    connection.execute(delete(states).where(states.c.id.in_(ids)))
    connection.execute(delete(t.commands).where(t.commands.c.id.in_(ids)))
    return len(ids)


def _record(connection: Connection, state: _Step, now: int) -> None:
    known = connection.execute(select(t.commands.c.state).where(t.commands.c.id == state.id)).scalar_one_or_none()
    if not _append(connection, state, now):
        return
    reached = {"state": state.state, "state_time": state.time, "detail": state.detail}
    if known is None:
        row = {"id": state.id, "gateway": state.gateway, "device": state.device, **reached}
        connection.execute(t.commands.insert(), row)
    elif _RANK[state.state] > _RANK[known]:
        connection.execute(update(t.commands).where(t.commands.c.id == state.id).values(reached))
    _journal(connection, state.id, "added" if known is None else "changed", now)


def _append(connection: Connection, state: _Step, now: int) -> bool:
    """Whether the step was not there yet."""
    statement = insert(connection, t.command_states).on_conflict_do_nothing()
    return connection.execute(statement, {**asdict(state), "recorded_time": now}).rowcount > 0


def _journal(connection: Connection, id: str, action: changes.Action, time: int) -> None:  # noqa: A002
    shown = get(connection, id)
    if shown is not None:
        site = connection.execute(select(t.gateways.c.site).where(t.gateways.c.gateway == shown.gateway)).scalar_one_or_none()
        changes.append(
            connection, "command", action, shown, time=time, site=site or "", gateway=shown.gateway, device=shown.device
        )


def _view(row: Any) -> views.Command:
    return views.Command(
        id=row.id,
        gateway=row.gateway,
        device=row.device,
        name=row.name,
        args=msgspec.json.decode(row.args) if row.args is not None else None,
        issuer=row.issuer,
        issued_time=row.issued_time,
        deadline=row.deadline,
        state=row.state,
        state_time=row.state_time,
        detail=row.detail,
        final=row.state in views.FINAL,
    )
