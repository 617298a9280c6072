"""The commands of a run: sent by the pipeline's rule, executed by the gateway, known to the master."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from examples.demo import results
from examples.demo.layout import Layout
from examples.demo.observe import CommandLine

FINAL = frozenset({"done", "failed", "expired", "unknown"})


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


def commands(layout: Layout) -> list[SentCommand]:
    """All that were sent, in the order of their cause."""
    sent = results.rows(
        layout.database,
        "SELECT id, name, device, cause_device, cause_channel, issued_at, window_start, window_end "
        "FROM commands ORDER BY cause_time, id",
    )
    return [_command(layout, row) for row in sent]


def _command(layout: Layout, row: Any) -> SentCommand:
    states = _states(layout, row["id"])
    done = [state["time"] for state in states if state["state"] == "done"]
    issued = results.micros(row["issued_at"])
    return SentCommand(
        id=row["id"],
        name=row["name"],
        device=row["device"],
        cause=f"{row['cause_device']} {row['cause_channel']} {row['window_start'][11:16]}–{row['window_end'][11:16]}",
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
