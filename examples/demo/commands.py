"""The commands of a run: sent by the pipeline's rule, executed by the gateway, known to the master."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from examples.demo.databases import EPOCH, Database
from examples.demo.layout import Layout
from examples.demo.observe import CommandLine

FINAL = frozenset({"done", "failed", "expired", "unknown"})


class Row(NamedTuple):
    """Columns of the table ``commands``."""

    id: str
    name: str
    device: str
    cause_device: str
    cause_channel: str
    cause_time: datetime
    issued_at: datetime
    window_start: datetime
    window_end: datetime


@dataclass(frozen=True, slots=True)
class SentCommand:
    """A command in the pipeline's database with the state the master knows. Times in µs since 1970, UTC."""

    id: str
    name: str
    device: str
    cause: str
    #: Times it was executed, by the gateway's own account: states "started" that the master was told of.
    executions: int
    state: str
    #: From issuing to the state "done"; None while it is not done.
    latency: float | None

    @property
    def line(self) -> CommandLine:
        return CommandLine(
            self.name, self.device, self.cause, self.state, f"{self.latency * 1e3:,.0f} ms" if self.latency else ""
        )


def commands(database: Database, layout: Layout) -> list[SentCommand]:
    """All that were sent, in the order of their cause."""
    sent = sorted((Row(*row) for row in database.rows("commands", *Row._fields)), key=lambda row: (row.cause_time, row.id))
    return [_command(layout, row) for row in sent]


def _command(layout: Layout, row: Row) -> SentCommand:
    states = _states(layout, row.id)
    done = [state["time"] for state in states if state["state"] == "done"]
    issued = (row.issued_at - EPOCH) // timedelta(microseconds=1)
    return SentCommand(
        id=row.id,
        name=row.name,
        device=row.device,
        cause=f"{row.cause_device} {row.cause_channel} {row.window_start:%H:%M}–{row.window_end:%H:%M}",
        executions=sum(state["state"] == "started" for state in states),
        state=next((state["state"] for state in reversed(states)), "sent"),
        latency=(done[0] - issued) / 1e6 if done else None,
    )


def _states(layout: Layout, id_: str) -> list[dict[str, Any]]:
    """The steps of a command as the master knows them; none while it knows nothing of it."""
    try:
        url = f"{layout.master_url.read_text().strip()}/api/v1/commands/{id_}/states"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {layout.token.read_text().strip()}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  (our own loopback address)
            found = json.load(answer)
    except (OSError, urllib.error.URLError, ValueError):
        return []
    states: list[dict[str, Any]] = found["items"] if isinstance(found, dict) else found
    return states
