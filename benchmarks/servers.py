"""The brokers to measure: the embedded one, and each that `tests.servers` can start, by the name of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError
from tests.servers import every
from tests.servers.broker_server import started

EMBEDDED: Final = "local"


def names() -> list[str]:
    """All there are."""
    return [EMBEDDED, *every.names()]


def chosen(text: str) -> list[str]:
    """Those of a list with commas; all of an empty one. Raises `ConfigurationError`."""
    there = names()
    wanted = [name for name in text.split(",") if name]
    if unknown := [name for name in wanted if name not in there]:
        raise ConfigurationError(f"no server for the broker {unknown[0]!r}", remedy="one of " + ", ".join(there))
    return wanted or there


@contextmanager
def running(name: str, directory: Path) -> Iterator[str]:
    """The URL of the broker ``name``, with its data in ``directory``. Raises `ServerFailed`."""
    if name == EMBEDDED:
        yield f"{EMBEDDED}:{directory / name}"
        return
    with started(name, directory / name) as server:
        yield server.url()
