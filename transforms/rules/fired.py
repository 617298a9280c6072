"""What follows when a rule begins or ceases to hold."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.command import Command
from transforms.jsontext import json_text
from transforms.rules import template
from transforms.rules.machine import RAISED, Change
from transforms.rules.spec import CommandConfig, Rule


class Fired(msgspec.Struct, frozen=True):
    """A rule has begun (``raised``) or ceased (``cleared``) to hold for a series. Times in µs since 1970, UTC."""

    #: The same whenever the same rule changes in the same way for the same cause.
    id: str
    rule: str
    device: str
    channel: str
    change: Change
    #: Event time of the cause, or its window's end.
    time: int
    #: What the cause is, a JSON object.
    cause: str
    #: The cause's columns, a JSON object. Numbers that JSON cannot write are null, in the command too, and told as texts in
    #: ``not_finite``.
    detail: str
    alert: bool
    command: Command | None
    window_start: int | None = None
    window_end: int | None = None


def fired(rule: Rule, change: Change, row: Mapping[str, Any], cause: Mapping[str, Any], *, time: int, now: int) -> Fired:
    """What a change of ``rule`` means. ``row`` holds device, channel and the other columns of the cause; ``now`` is the clock."""
    identity = json.dumps(cause, sort_keys=True, separators=(",", ":"))
    id_ = deterministic_id(rule.name, row["device"], row["channel"], change, identity)
    order = rule.command if change == RAISED else rule.otherwise
    return Fired(
        id=id_,
        rule=rule.name,
        device=row["device"],
        channel=row["channel"],
        change=change,
        time=time,
        cause=identity,
        detail=_detail(row),
        alert=rule.alert,
        command=None if order is None else _command(rule, order, row, id_, now),
        window_start=row.get("window_start") if rule.window else None,
        window_end=row.get("window_end") if rule.window else None,
    )


def deterministic_id(*parts: str) -> str:
    """A UUID of version 8 (RFC 9562, section 5.8) from the SHA-256 of the parts."""
    digest = bytearray(hashlib.sha256("\0".join(("iotcloud.rules", *parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def _detail(row: Mapping[str, Any]) -> str:
    columns = {name: value for name, value in row.items() if name not in ("device", "channel")}
    odd = {name: str(value) for name, value in columns.items() if isinstance(value, float) and not math.isfinite(value)}
    return json_text({"not_finite": odd, **columns} if odd else columns, default=str)


def _command(rule: Rule, order: CommandConfig, row: Mapping[str, Any], id_: str, now: int) -> Command:
    return Command(
        id=id_,
        gateway=template.fill_text(order.gateway, row),
        device=template.fill_text(order.device, row),
        name=template.fill_text(order.name, row),
        args=json_text(template.fill(order.args, row), default=str),
        issuer=f"rule:{rule.name}",
        issued_at=now,
        deadline=now + round(order.deadline * 1_000_000),
    )
