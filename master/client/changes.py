"""Following what changes in the registry, also across restarts of the master."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from brokers.backoff import Backoff
from master.client.errors import MasterUnavailable
from master.client.http import Http
from master.selection import Selection, parse_selection

#: Seconds of silence after which the connection is taken for dead; the master says something every 15.
_SILENCE: Final = 40.0


class Change(msgspec.Struct, frozen=True):
    """What happened; ``kind`` is ``ready`` or ``reset`` for the stream itself. ``value`` is as the REST interface shows it."""

    number: int
    time: int = 0
    kind: str = "ready"
    action: str = ""
    site: str = ""
    gateway: str = ""
    application: str = ""
    device: str = ""
    channel: str = ""
    value: dict[str, Any] | None = None


def watch(http: Http, selection: Selection | str, kinds: Sequence[str], *, after: int | None) -> Iterator[Change]:
    """Changes, in order, none twice; without an end. Raises `MasterRefused`.

    The first is ``ready``: what is listed after it misses nothing. ``reset``, at any time, means that changes were given up
    before they could be told: list again. A master that is away is waited for, and the stream goes on where it was.
    """
    chosen = parse_selection(selection) if isinstance(selection, str) else selection
    parameters = [*chosen.parameters(), *(("kind", kind) for kind in kinds)]
    backoff = Backoff(first=0.2, longest=5.0)
    number, begun = after, False
    while True:
        headers = {} if number is None else {"Last-Event-ID": str(number)}
        try:
            with http.stream("/watch", parameters, headers, silence=_SILENCE) as lines:
                for name, identifier, data in _events(lines):
                    backoff.reset()
                    number = identifier if identifier is not None else number
                    if name == "change":
                        yield msgspec.json.decode(data, type=Change)
                    elif name == "reset" or (name == "ready" and not begun):
                        yield Change(number or 0, kind=name)
                    begun = begun or name in ("ready", "reset")
        except MasterUnavailable:
            pass
        time.sleep(backoff.next())


def _events(lines: Iterator[str]) -> Iterator[tuple[str, int | None, str]]:
    """Server-sent events (HTML Standard, section 9.2): name, id, data."""
    name, identifier, data = "", None, ""
    for line in lines:
        if not line:
            yield name, identifier, data
            name, identifier, data = "", None, ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            identifier = int(value)
        elif field == "data":
            data += value
