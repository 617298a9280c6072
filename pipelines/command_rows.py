"""Rows of the tables ``commands`` and ``alerts`` for what rules have fired."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipelines.rule_memory import Pending
from storage.tables import ALERTS, COMMANDS


def command_rows(done: Sequence[Pending]) -> pl.DataFrame:
    """A row for every command. ``state`` is published, expired or refused."""
    rows = [
        {
            "id": command.id,
            "rule": found.fired.rule,
            "gateway": command.gateway,
            "device": command.device,
            "name": command.name,
            "args": command.args,
            "issued_at": command.issued_at,
            "deadline": command.deadline,
            "cause_device": found.fired.device,
            "cause_channel": found.fired.channel,
            "cause_time": found.fired.time,
            "window_start": found.fired.window_start,
            "window_end": found.fired.window_end,
            "cause": found.fired.cause,
            "state": found.outcome,
            "published_at": found.published_at,
            "detail": found.detail or None,
        }
        for found in done
        if (command := found.fired.command) is not None
    ]
    return pl.DataFrame(rows, schema=COMMANDS.types)


def alert_rows(done: Sequence[Pending]) -> pl.DataFrame:
    """A row for every alert. ``state`` is raised or cleared, ``time`` the event time of the cause."""
    rows = [
        {
            "id": found.fired.id,
            "rule": found.fired.rule,
            "device": found.fired.device,
            "channel": found.fired.channel,
            "state": found.fired.change,
            "time": found.fired.time,
            "detail": found.fired.detail,
        }
        for found in done
        if found.fired.alert
    ]
    return pl.DataFrame(rows, schema=ALERTS.types)
