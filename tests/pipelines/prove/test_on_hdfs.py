"""``iotcloud prove`` on an archive in a real HDFS: it reads no other way than on the local disk."""

from __future__ import annotations

import json
import uuid

import pytest

from iotcloud.__main__ import main
from schemas.control import EpochStart, encode_control
from schemas.registry import Schemas
from storage import open_journal
from tests.pipelines.batch.recorded import day
from tests.pipelines.fleet import TOPICS
from tests.servers.broker_server import Servers
from tests.servers.hdfs import HdfsServer

pytestmark = pytest.mark.slow


def test_an_archive_on_hdfs(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    server = servers["hdfs"]
    assert isinstance(server, HdfsServer)
    url = server.url(f"/tests/{uuid.uuid4().hex}", replication="2", blocksize="1MiB")
    frames = [message.value for message in day(end=200)]
    values = [encode_control(EpochStart("gateway-0", 1, None, None)), *frames[:4], *frames[5:]]
    journal = open_journal(url, Schemas.with_shipped())
    for start in range(0, len(values), 3):
        records = [(start + place, 1, "gateway-0", value) for place, value in enumerate(values[start : start + 3])]
        journal.append(TOPICS[0], 0, records, first=start)
    journal.close()
    assert main(["prove", "--archive", url, "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["stored"], row["unexplained_ranges"]) == (180, [{"first": 80, "last": 99}])
