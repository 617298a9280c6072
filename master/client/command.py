"""A command that was sent, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from master.client.errors import CommandFailed, CommandPending, MasterUnavailable
from master.client.http import Http
from master.views import Command, CommandState

#: Seconds of one request that waits for a step, and what is allowed beyond a command's deadline for its last step to arrive.
_LOOK: Final = 10.0
_GRACE: Final = 10.0


class SentCommand:
    """A command that the master has taken."""

    def __init__(self, http: Http, command: Command) -> None:
        self._http = http
        self._command = command
        # The master says both times by its own clock; this machine's may be another.
        lasts = max(0, self.deadline - (command.issued_time or 0)) / 1e6
        self._ends = time.monotonic() + lasts + _GRACE

    @property
    def id(self) -> str:
        """UUIDv7; the name of the command everywhere."""
        return self._command.id

    @property
    def gateway(self) -> str:
        return self._command.gateway

    @property
    def deadline(self) -> int:
        """µs since 1970, UTC."""
        return self._command.deadline or 0

    def states(self, timeout: float | None = None) -> Iterator[CommandState]:
        """Every step, from `issued` on, as it is reached; ends after the last one.

        ``timeout`` is in seconds, by default until the deadline and ten seconds more. Raises `CommandPending` when it
        has passed before the last step, and `MasterRefused`. A master that is away meanwhile is waited for.
        """
        until = self._ends if timeout is None else time.monotonic() + timeout
        number, last = 0, "issued"
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise CommandPending(
                    f"command {self.id} for {self._command.device} is {last} and has not ended",
                    state=last,
                    remedy="wait longer, or look whether its gateway is online; past its deadline it is not begun",
                )
            wait = min(_LOOK, left)
            try:
                parameters = [("after", str(number)), ("wait", f"{wait:.3f}")]
                steps = self._http.get(f"/commands/{self.id}/states", list[CommandState], parameters, wait=wait, within=left)
            except MasterUnavailable:
                # The request has tried a few times, with pauses.
                continue
            for step in steps:
                number, last = step.number, step.state
                yield step
                if step.final:
                    return

    def result(self, timeout: float | None = None) -> Any:
        """What the device answered, decoded from JSON; None when it answered nothing.

        Raises `CommandFailed` when it did not succeed, and `CommandPending` as `states` does.
        """
        *_, last = self.states(timeout)
        if last.state == "done":
            try:
                return msgspec.json.decode(last.detail) if last.detail else None
            except msgspec.DecodeError:
                return last.detail
        raise CommandFailed(
            f"command {self._command.name} for {self._command.device} {_WHAT[last.state]}: {last.detail or 'no reason given'}",
            state=last.state,
            detail=last.detail,
            remedy=_REMEDIES[last.state],
        )


_WHAT: Final = {
    "failed": "failed",
    "expired": "reached its gateway too late",
    "unknown": "was begun, and its gateway died before it ended",
    "unsent": "could not be sent",
}
_REMEDIES: Final = {
    "failed": "the device or its driver refused it; the detail says why",
    "expired": "give it a longer deadline, or send it when the gateway is online",
    "unknown": "look at the device before sending it again: it may have been carried out",
    "unsent": "look at the broker the command goes through (/api/v1/status)",
}
