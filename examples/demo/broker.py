"""The broker of a run: the embedded one, or a real server that is installed, started, and ended with the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

EMBEDDED: Final = "local"
#: Holds the server's URL, password and all, for the processes of the run; files only name it.
VARIABLE: Final = "IOTCLOUD_DEMO_BROKER"


@dataclass(frozen=True, slots=True)
class DemoBroker:
    """``url`` may be written into files; ``environment`` is what it needs."""

    url: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def names() -> list[str]:
    """What ``--broker`` may be: the embedded one and every server that `tests.servers` can start."""
    from tests.servers import every

    return [EMBEDDED, *every.names()]


@contextmanager
def started(name: str, directory: Path) -> Iterator[DemoBroker]:
    """The broker ``name`` with its data in ``directory``. Raises `ServerFailed` when its server cannot be had."""
    if name == EMBEDDED:
        yield DemoBroker(f"{EMBEDDED}:{directory}")
        return
    from tests.servers import broker_server

    with broker_server.started(name, directory) as server:
        yield DemoBroker(f"${{{VARIABLE}}}", {VARIABLE: server.url()})
