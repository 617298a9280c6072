"""Tables in PostgreSQL: the contract on a real server."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from storage.tables import TABLES
from tests.servers.broker_server import Servers
from tests.servers.postgresql import PostgresqlServer
from tests.storage.contract import SinkContract

_SCHEMAS = (f"s{number}" for number in itertools.count(1))


@pytest.fixture
def server(servers: Servers) -> PostgresqlServer:
    found = servers["postgresql"]
    assert isinstance(found, PostgresqlServer)
    return found


@pytest.fixture
def schema() -> str:
    """One of its own for each test."""
    return next(_SCHEMAS)


class TestPostgresql(SinkContract):
    @pytest.fixture
    def url(self, server: PostgresqlServer, schema: str) -> str:
        self._server = server
        return server.url(schema=schema)

    def rows(self, url: str, table: str) -> list[dict[str, Any]]:
        spec = TABLES[table]
        columns = [
            f"(extract(epoch FROM {column.name}) * 1000000)::bigint" if column.kind == "time" else f'"{column.name}"'
            for column in spec.columns
        ]
        schema = url.partition("schema=")[2]
        order = ", ".join(f'"{name}"' for name in spec.key)
        found = self._server.query(f'SELECT {", ".join(columns)} FROM {schema}."{table}" ORDER BY {order}')
        return [dict(zip(spec.names, row, strict=True)) for row in found]
