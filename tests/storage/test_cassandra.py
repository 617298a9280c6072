"""Tables in Cassandra: the contracts on a real server, and how things stand in them."""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from typing import Any
from uuid import uuid1

import polars as pl
import pytest

from schemas.errors import ConfigurationError
from storage import StoreRefused, StoreUnavailable, open_sink
from storage.cassandra.clock import ServersClock
from storage.cassandra.layout import LAYOUTS
from storage.tables import TABLES
from tests.servers.broker_server import Servers
from tests.servers.cassandra import CassandraServer
from tests.storage.contract import SinkContract
from tests.storage.rows import START, aggregates, gaps, latest
from tests.storage.server_contract import StoreServerContract

pytestmark = pytest.mark.slow
_KEYSPACES = (f"k{number}" for number in itertools.count(1))


@pytest.fixture
def server(servers: Servers) -> CassandraServer:
    found = servers["cassandra"]
    assert isinstance(found, CassandraServer)
    return found


class TestCassandra(StoreServerContract, SinkContract):
    ROWS = 50

    @pytest.fixture
    def server(self, servers: Servers) -> Any:
        self._server = servers["cassandra"]
        return self._server

    @pytest.fixture
    def place(self, server: Any) -> dict[str, str]:
        # Making tables takes seconds, so tests share them.
        server.empty("contract")
        return {"keyspace": "contract", "replication": "1"}

    @pytest.fixture
    def untouched(self) -> dict[str, str]:
        return {"keyspace": next(_KEYSPACES), "replication": "1"}

    @pytest.fixture
    def url(self, server: Any, place: dict[str, str]) -> str:
        return str(server.url(**place))

    def rows(self, url: str, table: str) -> list[dict[str, Any]]:
        keyspace = url.rpartition("/")[2].partition("?")[0]
        layout, names = LAYOUTS[table], TABLES[table].names
        inner = {column.name for column in layout.inner} if TABLES[table].merge == "newer" else set()
        columns = ", ".join(f'newest."{name}"' if name in inner else f'"{name}"' for name in names)
        assert isinstance(self._server, CassandraServer)
        found = self._server.query(f'SELECT {columns} FROM {keyspace}."{table}"')
        rows = [dict(zip(names, row, strict=True)) for row in found]
        # A partition all of whose rows have gone still has what is one for all of them.
        rows = [row for row in rows if row[TABLES[table].key[-1]] is not None]
        return sorted(rows, key=lambda row: tuple(row[name] for name in TABLES[table].key))


@pytest.fixture
def keyspace(server: CassandraServer) -> str:
    server.empty("apart")
    return "apart"


@pytest.fixture
def url(server: CassandraServer, keyspace: str) -> str:
    return server.url(keyspace=keyspace, replication="1")


def write(url: str, table: str, *writes: pl.DataFrame) -> None:
    with closing(open_sink(url)) as sink:
        for rows in writes:
            sink.write(table, rows)


def test_a_row_with_nulls_takes_the_place_of_all_of_the_one_before(server: CassandraServer, keyspace: str, url: str) -> None:
    full = aggregates(2).with_columns(pl.lit(0.5).alias("stddev"), pl.lit("{}").alias("others"))
    write(url, "aggregates", full, aggregates(1, value=float("nan")))
    found = server.query(f"SELECT device, mean, stddev, others FROM {keyspace}.aggregates")
    assert sorted(found) == [("mote-0", None, None, None), ("mote-1", 1.5, 0.5, "{}")]


def test_a_series_is_found_by_day_and_time(server: CassandraServer, keyspace: str, url: str) -> None:
    hour = 3_600_000_000
    rows = pl.concat(
        [aggregates(1).with_columns(pl.lit(START + number * hour).alias("window_start")) for number in range(-30, 30)]
    )
    write(url, "aggregates", rows, rows)
    where = "device = 'mote-0' AND channel = 'humidity' AND day IN ('2010-05-08', '2010-05-09')"
    found = server.query(
        f"SELECT window_start FROM {keyspace}.aggregates WHERE {where} AND window_start >= {START // 1000 - 3_600_000} * 1000"
    )
    assert [row[0] for row in found] == [START + number * hour for number in range(-1, 24)]
    times = server.query(f"SELECT time FROM {keyspace}.aggregates WHERE {where} LIMIT 1")
    assert times[0][0].isoformat() == "2010-05-08T00:00:00"


def test_the_latest_value_is_that_of_the_event_whatever_its_year(server: CassandraServer, keyspace: str, url: str) -> None:
    times = (-START, -START - 5, -START - 9_000, -2 * START)
    write(url, "latest", *(latest("a", time, float(number)) for number, time in enumerate(times)))
    assert server.query(f"SELECT newest.event_time, newest.value FROM {keyspace}.latest") == [(0, 0.0)]


def test_results_live_as_long_as_asked_and_what_is_merged_for_ever(server: CassandraServer, keyspace: str) -> None:
    url = server.url(keyspace=keyspace, replication="1", ttl="1d")
    write(url, "aggregates", aggregates(1))
    write(url, "latest", latest("a", 1, 1.0))
    write(url, "gaps", gaps((1, 2, "open")))
    ((left,),) = server.query(f"SELECT ttl(mean) FROM {keyspace}.aggregates")
    assert 80_000 < left <= 86_400
    assert server.query(f"SELECT ttl(newest) FROM {keyspace}.latest") == [(None,)]
    assert server.query(f"SELECT ttl(state) FROM {keyspace}.gaps") == [(None,)]


def test_a_request_held_up_in_the_network_undoes_nothing_written_after_it(
    server: CassandraServer, keyspace: str, url: str
) -> None:
    slow = server.proxied_url(keyspace=keyspace, replication="1", **server.impatient)
    with closing(open_sink(slow)) as held, closing(open_sink(url)) as other:
        held.write("aggregates", aggregates(1, value=1.0))
        server.proxy.hang()
        with pytest.raises(StoreUnavailable):
            held.write("aggregates", aggregates(1, value=2.0))
        other.write("aggregates", aggregates(1, value=3.0))
        server.proxy.restore()
        # On the same connection, behind what was held, where it still stands.
        held.check()
        held.write("latest", latest("a", 1, 1.0))
    assert server.query(f"SELECT mean FROM {keyspace}.aggregates") == [(3.0,)]


def test_without_a_keyspace_it_is_said_how_to_have_one_made(server: CassandraServer) -> None:
    with closing(open_sink(server.url(keyspace="not_there"))) as sink:
        for act in (sink.check, lambda: sink.write("aggregates", aggregates(1))):
            with pytest.raises(StoreRefused, match="no keyspace 'not_there'") as caught:
                act()
            assert "replication" in caught.value.remedy


def test_a_table_of_an_earlier_version_gets_the_new_columns(server: CassandraServer, keyspace: str, url: str) -> None:
    write(url, "aggregates", aggregates(1))
    server.query(f"ALTER TABLE {keyspace}.aggregates DROP p99")
    write(url, "aggregates", aggregates(1).with_columns(pl.lit(7.5).alias("p99")))
    assert server.query(f"SELECT p99 FROM {keyspace}.aggregates") == [(7.5,)]


def test_a_writer_needs_only_the_rights_that_the_readme_tells(server: CassandraServer, keyspace: str, url: str) -> None:
    write(url, "gaps", gaps((1, 5, "open")))
    server.query("CREATE ROLE IF NOT EXISTS writer WITH PASSWORD = 'secret' AND LOGIN = true")
    as_writer = server.url(keyspace=keyspace, login="writer:secret")
    with pytest.raises(StoreRefused) as caught:
        write(as_writer, "gaps", gaps((2, 2, "closed")))
    assert "grant" in caught.value.remedy
    for right in ("SELECT", "MODIFY"):
        server.query(f"GRANT {right} ON KEYSPACE {keyspace} TO writer")
    write(as_writer, "gaps", gaps((2, 2, "closed")))
    write(as_writer, "aggregates", aggregates(1))
    assert len(server.query(f"SELECT * FROM {keyspace}.gaps")) == 3


def test_the_clock_is_the_servers_and_never_goes_back() -> None:
    clock = ServersClock()
    assert clock.stale
    clock.set(uuid1(), asked_at=time.monotonic())
    assert not clock.stale
    first = clock()
    assert abs(first - time.time() * 1e6) < 60e6
    clock.set(uuid1(), asked_at=time.monotonic() + 3_600)
    stamps = [clock() for _ in range(1_000)]
    assert first < stamps[0]
    assert all(one + 1 < other for one, other in itertools.pairwise(stamps))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("cassandra://u@h:9042", "not a keyspace"),
        ("cassandra://u@h/Key-Space", "not a keyspace"),
        ("cassandra://u@h/k?consistency=most", "consistency"),
        ("cassandra://u@h/k?keyspace=k", "unknown field"),
        ("cassandra://u:geheim@h/k?cert=a", "cert and key go together"),
        ("cassandra://u@h/k?ca=/no/such/file", "cannot be used"),
        ("cassandra://u:${NO_SUCH_VARIABLE}@h/k", "NO_SUCH_VARIABLE is not set"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_sink(url)
    assert "geheim" not in str(caught.value)
