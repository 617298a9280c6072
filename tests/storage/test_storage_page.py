"""What docs/storage.md says: the columns of the tables, its statements on a real PostgreSQL, what of the journal may go."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest

from brokers import Message
from pipelines.run import main
from schemas.registry import Schemas
from storage import open_journal, open_sink
from storage.tables import TABLES, Table
from tests.pipelines.batch.recorded import APPENDED, day, expected, same, stored
from tests.servers.broker_server import Servers
from tests.servers.postgresql import PostgresqlServer
from tests.storage.page import PAGE, shown
from tests.storage.rows import START, aggregates, gaps, latest


def told(table: str) -> dict[str, str]:
    """Columns and their kinds as the page tells them; those of sessions are told with those of aggregates."""
    section = re.search(rf"^\*\*`{table}`\*\*.*?\n\n(.*?)\n\n", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = [line.split("|")[1:3] for line in section[1].splitlines()[2:]]
    columns = {name: kind.strip() for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    return columns if table != "sessions" else {**told("aggregates"), **columns}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_page_tells_every_column(table: Table) -> None:
    assert told(table.name) == {column.name: column.kind + "?" * column.nullable for column in table.columns}


class TestStatementsOnPostgresql:
    """The page's roles and database under other names, for the server is shared; rows as a pipeline writes them."""

    @pytest.fixture
    def server(self, servers: Servers) -> PostgresqlServer:
        found = servers["postgresql"]
        assert isinstance(found, PostgresqlServer)
        return found

    def test_roles_rights_and_what_grafana_asks(self, server: PostgresqlServer) -> None:
        for statement in statements("role"):
            server.query(statement)
        with closing(open_sink(server.url(user="plant", database="plant", schema="results"))) as sink:
            sink.write("aggregates", aggregates(3))
            sink.write("latest", latest("mote-1", 0, 2.5))
            sink.write("gaps", gaps((3, 5, "open"), (9, 9, "closed")))
            sink.write("alerts", filled("alerts"))
            sink.write("commands", filled("commands"))
        with connected(server, "plant") as owner:
            for statement in [*statements("rights"), *statements("index")]:
                owner.execute(statement)
        with connected(server, "charts") as reader:
            asked = [reader.execute(as_grafana(statement)).fetchall() for statement in statements("grafana")]
            assert [len(rows) for rows in asked] == [3, 1, 1, 1, 1, 1, 1]
            assert asked[5] == [("g", "t", 3)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statements("delete")[0])
        with connected(server, "plant") as owner:
            assert [owner.execute(statement).rowcount for statement in statements("delete")] == [3]


@pytest.mark.slow
def test_days_of_the_journal_that_were_worked_off_may_go(tmp_path: Path) -> None:
    """The oldest is deleted; the archive and `compact` go on, and every event is there once."""
    messages = day(end=60, frame=1)
    compact = ["compact", "--archive", str(tmp_path)]
    for number in range(3):
        archive(tmp_path, messages[number * 20 : number * 20 + 20], day=number)
        if number:
            shutil.rmtree(min(tmp_path.glob("journal/topic=*/partition=0/????-??-??")))
        assert main(compact) == 0
    assert same(stored(tmp_path), expected(messages))
    assert main(["verify", "--archive", str(tmp_path)]) == 0


def archive(root: Path, messages: Sequence[Message], *, day: int) -> None:
    """Append messages of one topic behind what is there, ``day`` days after the first ones."""
    journal = open_journal(f"files:{root}", Schemas.with_shipped())
    first = journal.next_offset(messages[0].topic, 0) or 0
    time = APPENDED + day * 86_400_000_000
    records = [(first + place, time, message.key, message.value) for place, message in enumerate(messages)]
    journal.append(messages[0].topic, 0, records, first=first)
    journal.close()


def statements(what: str) -> list[str]:
    found = [statement.strip() for block in shown("sql", what) for statement in block.split(";\n")]
    renamed = [re.sub(r"\bgrafana\b", "charts", re.sub(r"\biotcloud\b", "plant", statement)) for statement in found]
    return [statement for statement in renamed if statement]


def as_grafana(statement: str) -> str:
    """With its macros expanded as its PostgreSQL data source does, for the whole of 2010, and the variables of a dashboard."""
    statement = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN '2010-01-01T00:00:00Z' AND '2011-01-01T00:00:00Z'", statement)
    statement = re.sub(r"\$__timeGroup\((\w+), *'1h'\)", r"floor(extract(epoch from \1)/3600)*3600", statement)
    return statement.replace("$device", "mote-1").replace("$channel", "humidity")


def connected(server: PostgresqlServer, user: str) -> psycopg.Connection[Any]:
    return psycopg.connect(f"host=127.0.0.1 port={server.port} user={user} dbname=plant", autocommit=True)


def filled(table: str) -> pl.DataFrame:
    """One row of a table with something in every column."""
    something = {"text": "published", "time": START, "integer": 1, "real": 1.0}
    columns = TABLES[table].columns
    return pl.DataFrame([{column.name: something[column.kind] for column in columns}], schema=TABLES[table].types)
