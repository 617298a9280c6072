"""The journal on a real HDFS: the contract, what lies there, options, and what the cluster refuses."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import fastavro
import polars as pl
import pytest
import requests
from hdfs import InsecureClient

from schemas.errors import ConfigurationError
from schemas.frame import decode_frame
from schemas.registry import Schemas
from storage import Journal, StoreFull, StoreRefused, StoreUnavailable, open_journal
from storage.contract import Extent
from storage.files.webhdfs import open_webhdfs
from tests.servers.broker_server import Servers
from tests.servers.hdfs import HdfsServer
from tests.storage.frames import HOUR, records
from tests.storage.journal_contract import TOPIC, JournalContract, values

pytestmark = pytest.mark.slow


@pytest.fixture
def server(servers: Servers) -> HdfsServer:
    found = servers["hdfs"]
    assert isinstance(found, HdfsServer)
    return found


@pytest.fixture
def root() -> str:
    return f"/tests/{uuid.uuid4().hex}"


@pytest.fixture
def client(server: HdfsServer) -> InsecureClient:
    return InsecureClient(f"http://127.0.0.1:{server.port}", user=server.user)


def journal_at(url: str) -> Journal:
    return open_journal(url, Schemas.with_shipped())


def files(client: InsecureClient, root: str) -> list[str]:
    return sorted(f"{folder}/{name}" for folder, _, names in client.walk(root) for name in names)


class TestHdfs(JournalContract):
    @pytest.fixture
    def url(self, server: HdfsServer, root: str) -> str:
        return server.url(root, block_bytes="2kB", blocksize="1MiB")


def test_names_are_those_of_the_local_disk(server: HdfsServer, client: InsecureClient, root: str, tmp_path: Path) -> None:
    for url in (server.url(root), f"files:{tmp_path}/local"):
        journal = journal_at(url)
        journal.append(TOPIC, 2, records("rcx", first=5, time=26 * HOUR), first=5)
        journal.append_lost(TOPIC, 2, first=8, next_offset=20, time=27 * HOUR, reason="expired")
    there = [path.removeprefix(f"{root}/") for path in files(client, root)]
    assert len(there) == 4
    assert there == sorted(str(path.relative_to(tmp_path / "local")) for path in (tmp_path / "local").rglob("*.avro"))


@pytest.mark.parametrize("codec", ["null", "deflate", "zstandard", "zstd"])
def test_foreign_readers_see_ordinary_avro(server: HdfsServer, client: InsecureClient, root: str, codec: str) -> None:
    sent = records("rrcrs")
    journal_at(server.url(root, codec=codec)).append(TOPIC, 0, sent, first=0)
    (path,) = [name for name in files(client, root) if ".Reading." in name]
    expected = [event for place in (0, 1, 3) for event in decode_frame(sent[place][3], Schemas.with_shipped()).events]
    with client.read(path) as file:
        assert list(fastavro.reader(file)) == expected
    if "zst" not in codec:  # which polars does not read
        with client.read(path) as file:
            assert pl.read_avro(io.BytesIO(file.read())).get_column("value").to_list() == [event["value"] for event in expected]


def test_user_replication_and_block_size_are_as_asked(server: HdfsServer, client: InsecureClient, root: str) -> None:
    client.makedirs(root, permission="777")
    journal_at(server.url(root, user="archivist", replication="2", blocksize="64KiB")).append(TOPIC, 0, records("r"), first=0)
    (path,) = files(client, root)
    status = client.status(path)
    assert (status["owner"], status["replication"], status["blockSize"]) == ("archivist", 2, 65536)


@pytest.mark.parametrize("megabytes", [20, 100])
def test_large_files_are_read_back_equal(server: HdfsServer, root: str, megabytes: int) -> None:
    data = uuid.uuid4().bytes * (megabytes << 16)
    system, _ = open_webhdfs(server.url(root, blocksize="16MiB", replication="2"))
    system.create("folder/large", data)
    with system.open("folder/large") as file:
        assert file.read() == data
        assert file.seek(len(data) - 5) == len(data) - 5
        assert file.read() == data[-5:]


def test_an_append_of_tens_of_megabytes_comes_back_whole(server: HdfsServer, root: str) -> None:
    frames = records("r" * 900)
    sent = [(place, time, key, value) for place in range(20) for _, time, key, value in frames]
    sent = [(offset, time, key, value) for offset, (_, time, key, value) in enumerate(sent)]
    assert sum(len(value) for *_, value in sent) > 30_000_000
    journal = journal_at(server.url(root, codec="null", blocksize="16MiB", replication="1"))
    journal.append(TOPIC, 0, sent, first=0)
    assert values(list(journal.read(TOPIC, 0))) == values(sent)


def test_a_right_the_user_lacks_is_refused_at_once(server: HdfsServer, client: InsecureClient, root: str) -> None:
    client.makedirs(root, permission="755")
    journal = journal_at(server.url(root, user="stranger"))
    with pytest.raises(StoreRefused, match="stranger"):
        journal.check()
    with pytest.raises(StoreRefused, match="stranger"):
        journal.append(TOPIC, 0, records("r"), first=0)
    journal_at(server.url(root)).check()


@pytest.mark.parametrize("quota", ["storagespacequota=1000000", "namespacequota=8"])
def test_a_quota_that_is_exceeded_is_full_and_the_append_can_be_tried_again(
    server: HdfsServer, client: InsecureClient, root: str, quota: str
) -> None:
    client.makedirs(root)

    def limit(setting: str) -> None:
        requests.put(
            f"http://127.0.0.1:{server.port}/webhdfs/v1{root}?op=SETQUOTA&user.name={server.user}&{setting}", timeout=20
        ).raise_for_status()

    limit(quota)
    journal = journal_at(server.url(root, blocksize="1MiB"))
    with pytest.raises(StoreFull, match="quota"):
        journal.append(TOPIC, 0, records("rsc"), first=0)
    assert journal.next_offset(TOPIC, 0) is None
    limit(f"{quota.partition('=')[0]}=1000000000")
    assert journal.append(TOPIC, 0, records("rsc"), first=0) == 3
    assert list(journal.extents(TOPIC, 0)) == [Extent(0, 3)]
    assert len(files(client, root)) == 3


def test_a_cluster_without_room_is_unavailable_and_says_why(server: HdfsServer, root: str) -> None:
    """No DataNode has room for a block of this size; WebHDFS does not tell that from having no DataNode."""
    journal = journal_at(server.url(root, blocksize="1000GB", patience="1s"))
    with pytest.raises(StoreUnavailable, match="room for a block"):
        journal.append(TOPIC, 0, records("r"), first=0)


def test_nobody_there_is_unavailable_within_the_patience() -> None:
    journal = journal_at("hdfs://127.0.0.1:1/archive?user=u&patience=1s")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/archive"):
        journal.next_offset(TOPIC, 0)


@pytest.mark.parametrize(
    "url",
    [
        "hdfs://host:9870",
        "hdfs://host:9870/",
        "hdfs://host:99999/a",
        "hdfs://host/a?colour=red",
        "hdfs://host/a?replication=three",
        "hdfs://host/a?codec=snappy",
        "hdfs://host/a?auth=basic",
    ],
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        journal_at(url)
