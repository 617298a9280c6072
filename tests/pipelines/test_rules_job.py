"""Rules in a whole job on Prism, killed and started again: what plain Python decides takes effect once; the archive is whole."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from brokers import Message, connect
from schemas.command import Command, decode_command
from schemas.frame import encode_frame
from schemas.registry import Schemas, shipped
from storage import open_journal
from tests.pipelines.system.job import Job

pytestmark = pytest.mark.slow
TOPIC = "site.app.humidity"
READING = shipped("Reading")
START = datetime(2010, 5, 9, tzinfo=UTC)
SECONDS = 240
WINDOW = 10
PIPELINE = """
[source]
disorder = "2s"

[windows.short]
size = "10s"
allowed_lateness = "1h"

[rules.damp]
on = "windows"
window = "short"
when = "mean > 60"
until = "mean < 40"
alert = true
command = { gateway = "g1", device = "fan-{device}", name = "on", args = { mean = "{mean}" }, deadline = "10m" }
otherwise = { gateway = "g1", device = "fan-{device}", name = "off", deadline = "10m" }

[rules.wet]
on = "events"
when = "value > 80"
command = { gateway = "g2", device = "{device}", name = "beep", deadline = "10m" }

[rules.soaked]
on = "events"
when = "value > 55"
for = "7s"
alert = true
"""
Told = tuple[str, str, str, int]


def walk(seed: int) -> list[dict[str, Any]]:
    """A reading of each of three devices every second, wandering between 0 and 100."""
    chance = random.Random(seed)
    values = {f"mote-{number}": 50.0 for number in range(3)}
    events = []
    for second in range(SECONDS):
        for device, value in list(values.items()):
            values[device] = round(min(100.0, max(0.0, value + chance.uniform(-18, 18))), 3)
            events.append({"second": second, "device": device, "value": values[device]})
    return events


def frames(events: list[dict[str, Any]], per_frame: int = 6) -> list[bytes]:
    whole = [
        {
            "gateway": "gateway",
            "epoch": 1,
            "seq": seq,
            "gateway_time": START,
            "device": event["device"],
            "channel": "humidity",
            "event_time": START + timedelta(seconds=event["second"]),
            "value": event["value"],
        }
        for seq, event in enumerate(events)
    ]
    return [encode_frame(READING, whole[place : place + per_frame]) for place in range(0, len(whole), per_frame)]


def decided(rule: str, device: str, rows: list[tuple[int, float]], above: float, below: float, hold: int = 0) -> list[Told]:
    """What a rule makes of a device's (time in seconds, value), in plain Python."""
    told: list[Told] = []
    since: int | None = None
    active = False
    for at, value in rows:
        if active:
            if value < below or (below == above and value <= below):
                active = False
                told.append((rule, device, "cleared", at))
        elif value > above:
            since = at if since is None else since
            if at - since >= hold:
                active, since = True, None
                told.append((rule, device, "raised", at))
        else:
            since = None
    return told


def expected(events: list[dict[str, Any]]) -> tuple[list[Told], list[Told], list[Told]]:
    damp: list[Told] = []
    wet: list[Told] = []
    soaked: list[Told] = []
    for device in sorted({event["device"] for event in events}):
        rows = [(event["second"], event["value"]) for event in events if event["device"] == device]
        means = [
            (start + WINDOW, sum(value for at, value in rows if start <= at < start + WINDOW) / WINDOW)
            for start in range(0, SECONDS, WINDOW)
        ]
        damp += decided("damp", device, means, 60, 40)
        wet += decided("wet", device, rows, 80, 80)
        soaked += decided("soaked", device, rows, 55, 55, hold=7)
    return damp, wet, soaked


def commands(folder: Path, gateway: str) -> list[Command]:
    reader = connect(f"local:{folder}/log").log_reader()
    try:
        return [
            decode_command(record.value)
            for record in reader.read(f"{gateway}.commands", 0, 0, max_records=10_000, max_bytes=1 << 30)
        ]
    finally:
        reader.close()


def query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "results.sqlite", timeout=10)) as connection:
        return connection.execute(statement).fetchall()


def seconds(text: str) -> int:
    return round((datetime.fromisoformat(text) - START).total_seconds())


@pytest.mark.parametrize(("seed", "kills"), [(11, 0), (12, 4)])
def test_rules_decide_what_plain_python_decides_and_each_decision_takes_effect_once(
    tmp_path: Path, seed: int, kills: int
) -> None:
    events = walk(seed)
    sent = frames(events)
    publisher = connect(f"local:{tmp_path}/log").publisher()
    job = Job(tmp_path, (TOPIC,), PIPELINE)
    archive = ("--archive", f"files:{tmp_path}/archive")
    step = -(-len(sent) // (kills + 1))
    for place in range(0, len(sent), step):
        last = place + step >= len(sent)
        if not last:
            job.start(*archive)
        for frame in sent[place : place + step]:
            publisher.publish([Message(TOPIC, "gateway", frame)])
        if last:
            assert job.run("--until-end", *archive) == 0, job.log()
        else:
            job.wait_for(lambda status: status["totals"]["events"] > 0)
            time.sleep(random.Random(seed + place).uniform(0, 1.5))
            job.kill()
    publisher.close()
    damp, wet, soaked = expected(events)
    assert damp
    assert wet
    assert soaked

    alerts = query(tmp_path, "SELECT rule, device, state, time FROM alerts")
    assert sorted((rule, device, state, seconds(at)) for rule, device, state, at in alerts) == sorted(damp + soaked)

    rows = query(tmp_path, "SELECT id, rule, cause_device, cause_time, name, state FROM commands")
    names = {"on": "raised", "off": "cleared", "beep": "raised"}
    wet_raised = [told for told in wet if told[2] == "raised"]
    assert {state for *_, state in rows} == {"published"}
    assert sorted((rule, device, names[name], seconds(at)) for _, rule, device, at, name, _ in rows) == sorted(damp + wet_raised)

    found = commands(tmp_path, "g1") + commands(tmp_path, "g2")
    assert {command.id for command in found} == {row[0] for row in rows}
    assert len(set(found)) == len(rows), "a command was published again with another content"
    assert {command.device for command in found if command.gateway == "g1"} <= {f"fan-mote-{number}" for number in range(3)}

    journal = open_journal(f"files:{tmp_path}/archive", Schemas.with_shipped())
    assert [record.value for record in journal.read(TOPIC, 0)] == sent
