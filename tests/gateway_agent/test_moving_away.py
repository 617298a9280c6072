"""A transport that is renamed or removed while frames of it wait: what to do is said, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway_agent.kit import ROOT, Account, agent, bodies, eventually

APPLICATION = """
[applications.counter]
driver = "tests.gateway_agent.probes:Counter"
transport = "{transport}"
settings = {{ count = {count} }}
"""


def replay(file: Path, *options: str) -> tuple[int, str]:
    """The exit status, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway_agent", "outbox", "replay", str(file), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_what_waits_for_a_transport_that_is_gone_can_be_published_elsewhere_and_its_topic_goes_on(
    configuration: Callable[[str], Path], broker_url: str, tmp_path: Path
) -> None:
    old = f'[transports.old]\nurl = "local:{tmp_path}/away/broker"\n'
    with agent(configuration(old + APPLICATION.format(transport="old", count=100))) as running:
        running.wait_for("counter", "stopped")
        running.kill()
    file = configuration(APPLICATION.format(transport="main", count=200))
    with agent(file) as running:
        running.wait_for("counter", "stopped")
        found = eventually(running.status)
        assert found["transports"]["old"]["state"] == "missing"
        assert "add [transports.old] again" in found["transports"]["old"]["detail"]
        assert found["outbox"]["published"] == 0
        running.kill()
    status, told = replay(file, "--within", "1")
    assert (status, "the transport old, which is not configured: publish them with --to URL" in told) == (1, True)
    status, told = replay(file, "--to", broker_url)
    assert (status, "published 200 events" in told) == (0, True), told
    account = Account(bodies(broker_url, "site.counter.number"))
    assert [event["value"] for event in account.events] == [float(number) for number in range(200)]
