"""The stores of a run: files in its directory, or real servers that are installed, started, and ended with the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from examples.demo.layout import Layout

if TYPE_CHECKING:
    from tests.servers.broker_server import BrokerServer

LOCAL: Final = "local"
SQLITE: Final = "sqlite"
#: What ``--store`` and ``--db`` may be, beside the first ones the folders of servers.
ARCHIVES: Final = (LOCAL, "hdfs")
DATABASES: Final = {SQLITE: SQLITE, "postgres": "postgresql", "cassandra": "cassandra"}
#: Holds the database's password for the processes of the run; URLs only name it.
VARIABLE: Final = "IOTCLOUD_DEMO_PASSWORD"
#: Of the tables that `reprocess` fills.
_AGAIN: Final = "reprocessed"


@dataclass(frozen=True, slots=True)
class Stores:
    """URLs, which may be written into files; ``environment`` is what they need."""

    archive: str
    database: str
    #: Tables of their own, for what is computed again.
    reprocessed: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@contextmanager
def started(archive: str, database: str, layout: Layout, tell: Callable[[str], None]) -> Iterator[Stores]:
    """The stores named as in `ARCHIVES` and `DATABASES`. Raises `ServerFailed` when a server cannot be had."""
    with ExitStack() as stack:

        def server(name: str) -> BrokerServer:
            from tests.servers import broker_server

            tell(f"starting {name}")
            return stack.enter_context(broker_server.started(name, layout.out / name))

        place = f"files:{layout.archive}" if archive == LOCAL else server(archive).url()
        match DATABASES[database]:
            case "postgresql" as name:
                found = server(name)
                yield Stores(place, found.url(), found.url(schema=_AGAIN))
            case "cassandra" as name:
                from tests.servers.cassandra import PASSWORD, USER

                # Its client warns of what it then settles by itself, in the middle of the live table.
                logging.getLogger("cassandra").setLevel(logging.ERROR)
                found = server(name)
                options = {"login": f"{USER}:${{{VARIABLE}}}", "replication": "1"}
                urls = found.url(**options), found.url(keyspace=_AGAIN, **options)
                yield Stores(place, *urls, {VARIABLE: PASSWORD})
            case _:
                yield Stores(place, f"sqlite:{layout.database}", f"sqlite:{layout.reprocessed}")
