"""Telling watchers what a transaction did to a gateway: its picture before and after, and the difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection

from master.selection import Selection
from master.store import changes
from master.store.devices import devices
from master.store.fleet import applications, gateway
from master.store.pages import MAX_LIMIT
from master.store.topics import channels
from master.views import Application, Channel, Gateway

_View = Gateway | Application | Channel
_Picture = dict[tuple[changes.Kind, str, str], _View]


@contextmanager
def journalled(connection: Connection, name: str, *, time: int) -> Iterator[None]:
    """Journal what the block changes of gateway ``name``, its applications and channels."""
    before = _picture(connection, name)
    yield
    after = _picture(connection, name)
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        shown = new if new is not None else old
        if shown is None or (old is not None and new is not None and _steady(old) == _steady(new)):
            continue
        kind, application, channel = key
        changes.append(
            connection,
            kind,
            "removed" if new is None else "added" if old is None else "changed",
            new,
            time=time,
            site=shown.site,
            gateway=name,
            application=application,
            channel=channel,
        )


def devices_added(connection: Connection, name: str, added: Iterable[tuple[str, str]], *, time: int) -> None:
    """Journal devices, given as (application, device), that a gateway has now seen, or seen on another channel."""
    wanted = set(added)
    chosen = Selection(gateway=(name,), device=tuple(sorted({device for _, device in wanted})))
    after = None
    while True:
        part = devices(connection, chosen, after=after, limit=MAX_LIMIT)
        for device in part.items:
            if (device.application, device.device) in wanted:
                changes.append(
                    connection,
                    "device",
                    "added",
                    device,
                    time=time,
                    site=device.site,
                    gateway=name,
                    application=device.application,
                    device=device.device,
                )
        after = part.next
        if after is None:
            return


def _picture(connection: Connection, name: str) -> _Picture:
    found: _Picture = {}
    if (shown := gateway(connection, name)) is not None:
        found["gateway", "", ""] = shown
    chosen = Selection(gateway=(name,))
    for application in applications(connection, chosen, limit=MAX_LIMIT).items:
        found["application", application.application, ""] = application
    for channel in channels(connection, chosen, limit=MAX_LIMIT).items:
        found["channel", channel.application, channel.channel] = channel
    return found


def _steady(view: _View) -> _View:
    """Without what every heartbeat changes."""
    volatile: dict[str, Any] = {"seen_time": 0, "lease_until": 0, "registered_time": 0, "outbox": None}
    present = {name: value for name, value in volatile.items() if name in view.__struct_fields__}
    return msgspec.structs.replace(view, **present) if present else view
