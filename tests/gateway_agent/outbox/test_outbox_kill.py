"""A process that uses the outbox as hard as it can, killed with SIGKILL at random moments."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway_agent.outbox import Outbox
from tests.gateway_agent.kit import ROOT, Account, eventually
from tests.gateway_agent.outbox.kit import GATEWAY, MAIN, publish_all

#: How often it is started, and killed.
_LIVES = 8
#: Accepts from two applications, and lets go of what it hands out after noting it, all at once.
_HAMMER = """
import os, random, sys, threading
from pathlib import Path
from gateway_agent.outbox import Batch, Offer, Outbox
from tests.gateway_agent.outbox.kit import GATEWAY, MAIN, route, tails
directory, life = Path(sys.argv[1]), sys.argv[2]
outbox = Outbox(directory / "outbox", gateway=GATEWAY, transports=[MAIN])
def emit(name):
    stored = outbox.state_of(name)
    at = int(stored) if stored else 0
    with (directory / f"{name}.accepted.{life}").open("ab", buffering=0) as accepted:
        while True:
            count = random.choice([1, 3, 50, 1500])
            values = [float(at + number) for number in range(count)]
            at += count
            outbox.accept(Batch(name, [Offer(route("s." + name + ".x"), tails(values))], b"%d" % at))
            accepted.write(b"%d\\n" % at)
def publish():
    after = -1
    with (directory / f"published.{life}").open("ab", buffering=0) as published:
        while True:
            held = outbox.hand_out(MAIN, after=after, max_frames=random.randint(1, 20), timeout=0.1)
            for frame in held:
                published.write(len(frame.body).to_bytes(4, "little") + frame.topic.encode().ljust(16) + frame.body)
            if held:
                after = held[-1].id
                outbox.let_go(held)
for name in ("a", "b"):
    threading.Thread(target=emit, args=(name,), daemon=True).start()
publish()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_moment_of_death_loses_doubles_or_changes_anything_accepted(tmp_path: Path, seed: int) -> None:
    """Guarantee: what was accepted is published at least once and in order; what is sent twice is the same; counts are exact."""
    script = tmp_path / "hammer.py"
    script.write_text(_HAMMER)
    moments = random.Random(seed)
    for life in range(_LIVES):
        command = [sys.executable, str(script), str(tmp_path), str(life)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        eventually(lambda: all(size(tmp_path / f"{name}.{life}") for name in ("a.accepted", "published")))  # noqa: B023
        time.sleep(moments.random() * 0.4)
        assert process.poll() is None
        process.kill()
        process.wait()
    frames = [frame for life in range(_LIVES) for frame in _published(tmp_path / f"published.{life}")]
    outbox = Outbox(tmp_path / "outbox", gateway=GATEWAY, transports=[MAIN])
    stored = {name: int(outbox.state_of(name) or b"0") for name in ("a", "b")}
    frames += [(held.topic, held.body) for held in publish_all(outbox)]
    outbox.close()
    reopened = Outbox(tmp_path / "outbox", gateway=GATEWAY, transports=[MAIN])
    status = reopened.status()
    reopened.close()
    for name in ("a", "b"):
        account = Account([body for topic, body in frames if topic == f"s.{name}.x"])
        values = [event["value"] for event in account.events]
        assert values == [float(number) for number in range(stored[name])]
        accepted = [number for life in range(_LIVES) for number in _accepted(tmp_path / f"{name}.accepted.{life}")]
        assert accepted
        assert max(accepted) <= stored[name], "acknowledged, but not on disk"
        assert len(account.starts) >= 4
        counts = next(one for one in status.topics if one.topic == f"s.{name}.x")
        assert (counts.accepted, counts.published, counts.dropped) == (stored[name], stored[name], 0)
    shutil.rmtree(tmp_path / "outbox")


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _accepted(path: Path) -> list[int]:
    """Whole lines; none where it died before the first."""
    return [int(line) for line in path.read_bytes().rpartition(b"\n")[0].splitlines()] if path.exists() else []


def _published(path: Path) -> list[tuple[str, bytes]]:
    """Whole frames; one that was being noted at a death counts as not sent."""
    data, frames, at = path.read_bytes(), [], 0
    while at + 20 <= len(data):
        end = at + 20 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            break
        topic = data[at + 4 : at + 20].decode().strip()
        assert topic.startswith("s."), "a frame was cut in the middle"
        frames.append((topic, data[at + 20 : end]))
        at = end
    return frames
