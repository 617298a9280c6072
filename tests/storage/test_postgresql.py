"""Tables in PostgreSQL: the contracts on a real server, how things stand in them, and who may write."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from schemas.errors import ConfigurationError
from storage import StoreRefused, StoreUnavailable, open_sink
from storage.sql.schema import metadata
from storage.tables import TABLES
from tests.servers.broker_server import Servers
from tests.servers.ports import free_port
from tests.servers.postgresql import PASSWORD, PostgresqlServer
from tests.storage.contract import SinkContract
from tests.storage.rows import START, aggregates, gaps, latest
from tests.storage.server_contract import StoreServerContract

pytestmark = pytest.mark.slow
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


@pytest.fixture
def url(server: PostgresqlServer, schema: str) -> str:
    return server.url(schema=schema)


class TestPostgresql(StoreServerContract, SinkContract):
    @pytest.fixture
    def server(self, servers: Servers) -> Any:
        self._server = servers["postgresql"]
        return self._server

    @pytest.fixture
    def place(self, schema: str) -> dict[str, str]:
        return {"schema": schema}

    @pytest.fixture
    def url(self, server: PostgresqlServer, schema: str) -> str:
        return server.url(schema=schema)

    def rows(self, url: str, table: str) -> list[dict[str, Any]]:
        assert isinstance(self._server, PostgresqlServer)
        spec = TABLES[table]
        columns = [
            f"(extract(epoch FROM {column.name}) * 1000000)::bigint" if column.kind == "time" else f'"{column.name}"'
            for column in spec.columns
        ]
        schema = url.partition("schema=")[2]
        order = ", ".join(f'"{name}"' for name in spec.key)
        found = self._server.query(f'SELECT {", ".join(columns)} FROM {schema}."{table}" ORDER BY {order}')
        return [dict(zip(spec.names, row, strict=True)) for row in found]


def write(url: str, table: str, rows: pl.DataFrame) -> None:
    with closing(open_sink(url)) as sink:
        sink.write(table, rows)


def test_the_migrated_database_is_what_the_tables_say(server: PostgresqlServer, schema: str, url: str) -> None:
    write(url, "aggregates", aggregates(1))
    engine = sa.create_engine(f"postgresql+psycopg://iotcloud@127.0.0.1:{server.port}/iotcloud?options=-csearch_path%3D{schema}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "iotcloud_version", "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    types = "SELECT data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = 'aggregates'"
    assert {"timestamp with time zone", "double precision", "bigint", "text"} == {row[0] for row in server.query(types, schema)}


def test_without_a_schema_the_first_of_the_search_path_is_taken(server: PostgresqlServer) -> None:
    write(server.url(), "aggregates", aggregates(2))
    assert server.query("SELECT count(*) FROM public.aggregates") == [(2,)]


def test_times_are_instants_of_the_whole_range(server: PostgresqlServer, schema: str, url: str) -> None:
    year_1, year_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
    for time in (year_1, -1, year_9999):
        write(url, "aggregates", aggregates(1).with_columns(pl.lit(time).alias("window_start")))
    found = server.query(f"SELECT (extract(epoch FROM window_start) * 1000000)::bigint FROM {schema}.aggregates ORDER BY 1")
    assert [row[0] for row in found] == [year_1, -1, year_9999]


def test_numbers_that_are_none_are_null_and_characters_of_code_0_are_pictured(
    server: PostgresqlServer, schema: str, url: str
) -> None:
    write(url, "aggregates", aggregates(1, value=float("nan")).with_columns(pl.lit("a\0b").alias("device")))
    write(url, "latest", latest("a", 1, float("inf")))
    assert server.query(f"SELECT device, mean FROM {schema}.aggregates") == [("a␀b", None)]
    assert server.query(f"SELECT value FROM {schema}.latest") == [(float("inf"),)]


def test_a_large_write_is_one_transaction(server: PostgresqlServer, schema: str, url: str) -> None:
    write(url, "aggregates", aggregates(1))
    server.query(f"ALTER TABLE {schema}.aggregates ADD CHECK (device <> 'mote-19999')")
    with pytest.raises(StoreRefused, match="violates check"):
        write(url, "aggregates", aggregates(20_000))
    assert server.query(f"SELECT count(*) FROM {schema}.aggregates") == [(1,)]


def test_large_frames_go_in_several_statements(server: PostgresqlServer, schema: str, url: str) -> None:
    count, size = 60, 1_000_000
    rows = pl.DataFrame(
        [
            {"topic": "t", "partition": 0, "offset": number, "reason": "", "time": START, "frame": bytes([number]) * size}
            for number in range(count)
        ],
        schema=TABLES["dead_letters"].types,
    )
    write(url, "dead_letters", rows)
    found = server.query(f'SELECT get_byte(frame, 0), length(frame) FROM {schema}.dead_letters ORDER BY "offset"')
    assert found == [(number, size) for number in range(count)]


def test_a_session_ended_by_the_administrator_is_begun_again(server: PostgresqlServer, schema: str, url: str) -> None:
    with closing(open_sink(url)) as sink:
        for first in range(3):
            sink.write("aggregates", aggregates(1, first=first))
            ended = server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iotcloud'")
            assert (True,) in ended
    assert server.query(f"SELECT count(*) FROM {schema}.aggregates") == [(3,)]


@pytest.fixture
def locked(server: PostgresqlServer, schema: str, url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that holds the aggregates locked until it commits."""
    write(url, "aggregates", aggregates(1))
    with psycopg.connect(f"host=127.0.0.1 port={server.port} user=iotcloud dbname=iotcloud") as other:
        other.execute(f"LOCK TABLE {schema}.aggregates")
        yield other


def test_a_locked_table_is_waited_for(server: PostgresqlServer, schema: str, url: str, locked: psycopg.Connection[Any]) -> None:
    written = threading.Event()

    def wait() -> None:
        write(server.url(schema=schema, statement_timeout="200ms"), "aggregates", aggregates(1, first=1))
        written.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert not written.wait(1.0), "written while another had the lock"
    locked.commit()
    assert written.wait(60)
    thread.join()


def test_a_table_locked_for_long_is_unavailable(server: PostgresqlServer, schema: str, locked: psycopg.Connection[Any]) -> None:
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        write(server.url(schema=schema, statement_timeout="200ms", retry="1s"), "aggregates", aggregates(1, first=1))


def test_a_database_of_a_newer_version_is_refused(server: PostgresqlServer, schema: str, url: str) -> None:
    write(url, "aggregates", aggregates(1))
    server.query(f"UPDATE {schema}.iotcloud_version SET version_num = '9999'")
    with pytest.raises(StoreRefused, match="newer version"):
        write(url, "aggregates", aggregates(1))


def login(password: str) -> str:
    return f"writer:{password}"


def test_a_writer_needs_only_the_rights_that_the_readme_tells(
    server: PostgresqlServer, schema: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(url, "gaps", gaps((1, 5, "open")))
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    as_writer = server.url(user=login("${DB_PASSWORD}"), schema=schema)
    with closing(open_sink(as_writer)) as sink:
        for act in (sink.check, lambda: sink.write("gaps", gaps((2, 2, "closed")))):
            with pytest.raises(StoreRefused) as caught:
                act()
            assert "grant" in caught.value.remedy
    server.query(f"GRANT USAGE ON SCHEMA {schema} TO writer")
    server.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO writer")
    for number, password in enumerate(("${DB_PASSWORD}", f"file:{secret}", quote(PASSWORD, safe=""))):
        with closing(open_sink(server.url(user=login(password), schema=schema))) as sink:
            sink.check()
            sink.write("gaps", gaps((2 + number, 2 + number, "closed")))
            assert PASSWORD not in sink.url
            assert quote(PASSWORD, safe="") not in sink.url
    assert server.query(f"SELECT count(*) FROM {schema}.gaps") == [(5,)]


def test_who_may_not_make_tables_is_told_before_anything_is_written(
    server: PostgresqlServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    with (
        closing(open_sink(server.url(user=login("${DB_PASSWORD}"), schema=schema))) as sink,
        pytest.raises(StoreRefused) as caught,
    ):
        sink.check()
    assert "make tables" in str(caught.value)


@pytest.mark.parametrize(("user", "database"), [("nobody_known", "iotcloud"), ("stranger", "iotcloud"), ("iotcloud", "other")])
def test_an_unknown_user_or_database_is_refused(server: PostgresqlServer, user: str, database: str) -> None:
    with closing(open_sink(server.url(user=user, database=database))) as sink, pytest.raises(StoreRefused):
        sink.write("aggregates", aggregates(1))


def test_of_several_servers_the_one_that_is_there_is_taken(server: PostgresqlServer, schema: str) -> None:
    url = server.url(schema=schema).replace("@", f"@127.0.0.1:{free_port()},")
    write(url, "aggregates", aggregates(1))
    assert server.query(f"SELECT count(*) FROM {schema}.aggregates") == [(1,)]


def test_encryption_vouched_for_by_the_right_authority(server: PostgresqlServer, schema: str) -> None:
    made = server.certificates
    write(server.url(schema=schema, sslmode="verify-full", sslrootcert=str(made.ca)), "aggregates", aggregates(1))
    with pytest.raises(StoreRefused, match="certificate verify failed"):
        write(server.url(schema=schema, sslmode="verify-full", sslrootcert=str(made.stranger)), "aggregates", aggregates(1))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u@h:5432", "names no database"),
        ("postgresql://u@h:port/db", "not host:port"),
        ("postgresql://u@h/db?shema=a", "did you mean 'schema'"),
        ("postgresql://u@h/db?schema=a-b", "small letters"),
        ("postgresql://u@h/db?schema", "has no value"),
        ("postgresql://u:${NO_SUCH_VARIABLE}@h/db", "NO_SUCH_VARIABLE is not set"),
        ("postgresql://u:file:/no/such/file@h/db", "cannot read the secret file"),
        ("postgresql://u:geheim@h/db?retry=for-ever", "retry"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_sink(url)
    assert "geheim" not in str(caught.value)
