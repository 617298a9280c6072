"""Damage on the gateway's disk while its agent is at work, and at its next start: it is repaired, and the agent goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.control import is_control
from schemas.frame import decode_frame
from schemas.registry import Schemas
from tests.gateway_agent.kit import agent, bodies, eventually
from tests.gateway_agent.outbox.kit import break_a_leaf

COUNT = 3_000
CONFIG = """
[transports.far]
url = "local:{away}/broker"
[applications.counter]
driver = "tests.gateway_agent.probes:Counter"
transport = "far"
settings = {{ count = {count}, batch = 30, pause = 0.01 }}
"""


@pytest.mark.slow
def test_a_backlog_with_a_broken_page_leaves_but_for_what_was_on_it(configuration: Callable[[str], Path], tmp_path: Path) -> None:
    """Guarantee: damage that no opening notices ends no agent for good. What is lost is counted, and no event is there twice."""
    away = tmp_path / "away"
    file = configuration(CONFIG.format(away=away, count=COUNT))
    with agent(file) as running:
        running.wait_for("counter", "stopped")
        assert running.terminate() == 0
    break_a_leaf(tmp_path / "data" / "outbox.sqlite")
    away.mkdir()
    with agent(file) as running:
        eventually(lambda: "has been repaired" in running.log.read_text(), what="a repair")
        eventually(lambda: (status := running.status()) and status["outbox"]["accepted"] == COUNT)
        counts = running.wait_published()["topics"]["site.counter.number"]
        running.wait_for("counter", "stopped")
        assert running.terminate() == 0
    assert counts["accepted"] == COUNT == counts["published"] + counts["dropped"]
    assert 0 < counts["dropped"] < COUNT // 2
    events = [
        event["value"]
        for body in bodies(f"local:{away / 'broker'}", "site.counter.number")
        if not is_control(body)
        for event in decode_frame(body, Schemas.with_shipped()).events
    ]
    assert events == sorted(events)
    assert len(set(events)) == counts["published"]
