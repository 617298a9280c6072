"""A device that is silent is told of although the job was killed meanwhile, and although nothing of it is read again."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from brokers import Message, connect
from schemas.frame import encode_frame
from schemas.registry import shipped
from tests.pipelines.system.job import Job

pytestmark = pytest.mark.slow
READING = shipped("Reading")
START = datetime(2010, 5, 9, tzinfo=UTC)
SILENT, BUSY = "site.app.pressure", "site.app.humidity"
PIPELINE = """
[source]
disorder = "1s"

[windows.short]
size = "5s"

[rules.silent]
on = "events"
device = "pump-1"
absent = "60s"
alert = true
"""


def frame(device: str, channel: str, seq: int, second: int) -> bytes:
    at = START + timedelta(seconds=second)
    header = {"gateway": device, "epoch": 1, "seq": seq, "gateway_time": at, "device": device, "channel": channel}
    return encode_frame(READING, [{**header, "event_time": at, "value": 1.0}])


def alerts(folder: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(folder / "results.sqlite", timeout=10)) as connection:
        return connection.execute("SELECT rule, device, state FROM alerts").fetchall()


def test_a_device_that_fell_silent_before_the_job_was_killed_is_told(tmp_path: Path) -> None:
    job = Job(tmp_path, (SILENT, BUSY), PIPELINE)
    publisher = connect(f"local:{tmp_path}/log").publisher()

    def publish(device: str, channel: str, topic: str, seconds: range) -> None:
        publisher.publish([Message(topic, device, frame(device, channel, second, second)) for second in seconds])

    publish("pump-1", "pressure", SILENT, range(2))
    publish("mote-1", "humidity", BUSY, range(20))
    job.start()
    job.wait_for(lambda status: status["totals"]["events"] >= 22)
    for second in range(20, 50):
        # A block each, so that the job can begin again behind all that the pump has said.
        publish("mote-1", "humidity", BUSY, range(second, second + 1))
        time.sleep(0.05)
    passed = int((START + timedelta(seconds=40)).timestamp() * 1e6)
    job.wait_for(lambda status: (status["watermark"] or 0) >= passed)
    job.kill()
    assert alerts(tmp_path) == []

    publish("mote-1", "humidity", BUSY, range(50, 100))
    job.start()
    deadline = time.monotonic() + 60
    while not alerts(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    job.terminate()
    assert job.wait() == 0, job.log()
    assert alerts(tmp_path) == [("silent", "pump-1", "raised")]
