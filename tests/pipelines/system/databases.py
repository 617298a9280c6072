"""Databases of the test servers, as a job's sinks, and read without the sinks."""

from __future__ import annotations

from typing import Any

from storage.cassandra.layout import LAYOUTS
from storage.tables import TABLES
from tests.servers.broker_server import Servers
from tests.servers.cassandra import CassandraServer
from tests.servers.postgresql import PostgresqlServer

NAMES = ("postgresql", "cassandra")


class Database:
    """The server ``name``; a test's tables are in a ``place`` of their own."""

    def __init__(self, name: str, servers: Servers) -> None:
        server = servers[name]
        assert isinstance(server, PostgresqlServer | CassandraServer)
        self._server = server
        self.process = server.process

    def url(self, place: str, **options: str) -> str:
        if isinstance(self._server, PostgresqlServer):
            return self._server.url(schema=place, **options)
        return self._server.url(keyspace=place, replication="1", **options)

    def rows(self, place: str, table: str, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """All rows of a table, in any order."""
        shown = [f'"{name}"' for name in columns]
        if isinstance(self._server, PostgresqlServer):
            return self._server.query(f'SELECT {", ".join(shown)} FROM {place}."{table}"')
        spec, inner = TABLES[table], [column.name for column in LAYOUTS[table].inner]
        if spec.merge == "newer":
            shown = [f'newest."{name}"' if name in inner else f'"{name}"' for name in columns]
        found = self._server.query(f'SELECT "{spec.key[-1]}", {", ".join(shown)} FROM {place}."{table}"')
        # A partition all of whose rows have gone still has what is one for all of them.
        return [row[1:] for row in found if row[0] is not None]
